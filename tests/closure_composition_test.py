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

"""Every kind of capture, under every stack of transformations, in every way.

Each entry is compared with differentiating straight through the solver, under
the same stack. A kind that a stack skips would be listed, and none is. Stacks
that need forward mode apply to solvers with a forward rule alone.
"""

import functools

from absl.testing import absltest, parameterized
import numpy as np

import jax
import apply_patch  # noqa: F401
from jax._src import test_util as jtu

import closure_cases as cases
import closure_stacks as stacks

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(stacks.NUM_DEVICES)


@functools.cache
def _expected(kind, stack):
  # The same for either kind of rule.
  problem = cases.Problem(kind, cases.root_straight_through)
  return jax.tree.map(np.asarray, stack(problem))

def _entries():
  for stack in (*stacks.REVERSE.values(), *stacks.FORWARD.values()):
    for kind in cases.KINDS:
      for way in cases.WAYS:
        if way == "custom_vjp" and stack.__name__ in stacks.FORWARD:
          continue
        yield f"_{stack.__name__}_{kind}_{way}", kind, stack, way


# What is compiled is tiny, and compiling it is most of the time.
@jtu.with_global_config(jax_disable_most_optimizations=True)
# What a user has who sets nothing: raw keys, and implicit promotion.
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_legacy_prng_key="allow", jax_enable_checks=False)
class ClosureCompositionTest(jtu.JaxTestCase):

  @parameterized.named_parameters(*_entries())
  def test(self, kind, stack, way):
    if "shard_map" in stack.__name__:
      if jax.device_count() < stacks.NUM_DEVICES:
        self.skipTest(f"needs {stacks.NUM_DEVICES} devices")
    if (kind, way) == ("key", "custom_vjp") and (
        stack.__name__ in ("grad_of_cond", "grad_of_switch") and
        jax.__version_info__ < (0, 10)):
      self.skipTest("no key can be a residual of one branch there")
    expected = _expected(kind, stack)
    actual = stack(cases.Problem(kind, cases.WAYS[way]))
    self.assertAllClose(actual, expected, **cases.tolerance(kind))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
