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

"""Every kind of capture, under every stack of transformations, in all solvers.

The reference for each entry differentiates straight through the solver, under
the same stack. A kind that a stack skips would be listed, and none is. Stacks
that need forward mode apply to solvers with a forward rule alone.

That takes minutes. Unless ``JAX_PATCH_ALL_TESTS=1`` is set, as it is in CI,
every stack runs with one kind for each solver.
"""

import functools
import os

from absl.testing import absltest, parameterized
import numpy as np

import jax
from jax._src import test_util as jtu

import capture_kinds as cases
import transformation_stacks as stacks

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(stacks.NUM_DEVICES)


_STACKS = [*stacks.REVERSE.values(), *stacks.FORWARD.values()]

@functools.cache
def _expected(kind, stack):
  # The same for either kind of rule.
  problem = cases.Problem(kind, cases.root_straight_through)
  return jax.tree.map(np.asarray, stack(problem))

def _entries(every):
  # The choice takes the kinds in turn, from one stack to the next, so that each
  # has as many stacks. The ways are half of a turn apart, so that a stack that
  # applies to both has two kinds, mostly with one that is not differentiated.
  kinds = list(cases.KINDS)
  for number, stack in enumerate(_STACKS):
    for way, turn in ("custom_vjp", 0), ("custom_jvp", len(kinds) // 2):
      if way == "custom_vjp" and stack.__name__ in stacks.FORWARD:
        continue
      chosen = kinds[(number + turn) % len(kinds)]
      for kind in kinds if every else [chosen]:
        yield f"_{stack.__name__}_{kind}_{way}", kind, stack, way

_ALL, _CHOSEN = list(_entries(True)), list(_entries(False))
_RUN = _ALL if os.environ.get("JAX_PATCH_ALL_TESTS") else _CHOSEN

# For conftest.py.
LEFT_OUT = "" if _RUN is _ALL else (
    f"{len(_ALL) - len(_CHOSEN)} of {len(_ALL)} combinations of a stack, a "
    "capture and a rule")


# What is compiled is tiny, and compiling it is most of the time.
@jtu.with_global_config(jax_disable_most_optimizations=True)
# What a user has who sets nothing: raw keys, and implicit promotion.
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_legacy_prng_key="allow", jax_enable_checks=False)
class ClosureCompositionTest(jtu.JaxTestCase):

  @parameterized.named_parameters(*_RUN)
  def test(self, kind, stack, way):
    if "shard_map" in stack.__name__:
      if jax.device_count() < stacks.NUM_DEVICES:
        self.skipTest(f"needs {stacks.NUM_DEVICES} devices")
    expected = _expected(kind, stack)
    actual = stack(cases.Problem(kind, cases.WAYS[way]))
    self.assertAllClose(actual, expected, **cases.tolerance(kind))

  def test_choice_has_every_kind_and_every_stack_in_every_way(self):
    def found(entries):
      return {(x, way) for _, kind, stack, way in entries
              for x in (kind, stack)}
    self.assertContainsSubset(_CHOSEN, _ALL)
    self.assertEqual(found(_CHOSEN), found(_ALL))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
