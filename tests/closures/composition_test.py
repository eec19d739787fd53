# Copyright 2026 The JAX Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     https://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Every kind of capture, under stacks of transformations, in all solvers.

The reference for each entry differentiates straight through the solver, under
the same stack. Some stacks are named, and others are drawn:
``RANDOM_CLOSURES`` is their number and ``RANDOM_CLOSURES_SEED`` the first seed.

That takes minutes. With ``JAX_PATCH_ALL_TESTS=1``, as CI sets it, a named stack
runs with every kind, in one of the solvers; without, with one kind for each.
"""

import functools
import os
import random

from absl.testing import absltest, parameterized
import numpy as np

import jax
from jax._src import test_util as jtu

import capture_kinds as cases
import transformation_stacks as stacks

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(stacks.NUM_DEVICES)

_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))
NUM_DRAWS = int(os.environ.get("RANDOM_CLOSURES", 100 if _ALL_TESTS else 11))
FIRST_SEED = int(os.environ.get("RANDOM_CLOSURES_SEED", 0))


def _named():
  # The choice takes the kinds in turn. The ways are half of a turn apart, so
  # that a stack has other kinds with one than with the other.
  kinds = list(cases.KINDS)
  step = 2 if _ALL_TESTS else len(kinds)
  for number, (name, stack) in enumerate(stacks.STACKS.items()):
    for way, turn in ("custom_vjp", 0), ("custom_jvp", len(kinds) // 2):
      if stacks.has_derivatives(stack, way):
        for kind in kinds[(number + turn) % step::step]:
          yield f"_{name}_{kind}_{way}", stack, kind, way

def _drawn():
  # More of the derivatives, which are what leaks.
  layers = [x for x in [*stacks.LAYERS, *3 * sorted(stacks.REVERSE)] if x not in
            ("shard_map", "checking_leaks", "disable_jit")]
  for seed in range(FIRST_SEED, FIRST_SEED + NUM_DRAWS):
    rng, drawn = random.Random(seed), []
    kind = list(cases.KINDS)[seed % len(cases.KINDS)]
    way = rng.choice(list(cases.WAYS))
    # A leak takes a trace that ends before the derivative is done, so that the
    # derivative is of something else than the solver itself.
    while (not {*drawn[:-1]} & (stacks.REVERSE | stacks.FORWARD)
           or not stacks.has_derivatives(" ".join(drawn), way)):
      drawn = rng.choices(layers, k=rng.choice([2, 2, 3, 3, 4]))
    yield f"_seed_{seed}", " ".join(drawn), kind, way


# What is compiled is tiny, and compiling it is most of the time.
@jtu.with_global_config(jax_disable_most_optimizations=True)
# What a user has who sets nothing: raw keys, and implicit promotion.
# JAX's own checks do not know all parameters of the `closed_call`s that arise
# where remat is transposed (`_check_closed_call() got ... 'name'`).
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_legacy_prng_key="allow", jax_enable_checks=False)
class ClosureCompositionTest(jtu.JaxTestCase):

  @parameterized.named_parameters(*_named(), *_drawn())
  def test(self, stack, kind, way):
    if "shard_map" in stack and jax.device_count() < stacks.NUM_DEVICES:
      self.skipTest(f"needs {stacks.NUM_DEVICES} devices")
    actual = stacks.evaluate(stack, kind, cases.WAYS[way])
    self.assertAllClose(
        actual, _expected(stack, kind), err_msg=f"{stack}, {kind}, {way}",
        **cases.tolerance())

@functools.cache
def _expected(stack, kind):
  # The same for either kind of rule.
  return jax.tree.map(np.asarray, stacks.evaluate(
      stack, kind, cases.root_straight_through))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
