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

"""A second, fresh closure compiles nothing, whatever function it calls."""

import os

from absl.testing import absltest, parameterized

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree
from jax.experimental.ode import odeint

from called_functions import KINDS

jax.config.parse_flags_with_absl()

_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))
# XLA takes long for these, which the other tests do not compile.
_COMPILED = list(KINDS) if _ALL_TESTS else [
    "jvp", "vjp_in_scan", "pure_callback", "root_tree", "root_vjp", "odeint"]

# These are to be JAX's defaults.
_FLAGS = [
    flags for flags in (
        ("jax_use_simplified_jaxpr_constants",), ("jax_custom_jvp3",),
        ("jax_custom_vjp3",), ("jax_custom_jvp3", "jax_custom_vjp3"))
    if all(hasattr(jax.config, flag) for flag in flags)]

LEFT_OUT = "" if _ALL_TESTS else (
    f"derivatives and other defaults for {len(KINDS) - len(_COMPILED)} kinds of "
    "dynamics")


class KindsTest(jtu.JaxTestCase):

  def check_converted_functions(self, kind):
    converted = []
    for a in 1., 2.:
      def trace(a):
        f, _ = jax.closure_convert(lambda y: KINDS[kind](a, y), jnp.ones(()))
        converted.append(f)
        return 0
      jax.eval_shape(trace, a)
    self.assertEqual(*converted)

  def check_pytrees(self, kind):
    trees = [closure_to_pytree(lambda y: KINDS[kind](a, y), jnp.ones(()))
             for a in (jnp.array(1.), jnp.array(2.))]
    self.assertEqual(*map(jax.tree.structure, trees))

  @parameterized.parameters(*KINDS)
  def test_converted_functions_are_equal(self, kind):
    self.check_converted_functions(kind)

  @parameterized.parameters(*KINDS)
  def test_pytrees_have_one_structure(self, kind):
    self.check_pytrees(kind)

  @parameterized.product(kind=_COMPILED, flags=_FLAGS)
  def test_other_defaults(self, kind, flags):
    with jtu.global_config_context(**dict.fromkeys(flags, True)):
      self.check_converted_functions(kind)
      self.check_pytrees(kind)

  @parameterized.parameters(*_COMPILED)
  def test_odeint(self, kind):
    if kind == "io_callback" and jtu.jaxlib_version() < (0, 12):
      self.skipTest("custom_vjp takes no such effect there")
    ts = jnp.array([0., 1e-3])
    def solve(a):
      dynamics = lambda y, t: KINDS[kind](a, y)
      return odeint(dynamics, jnp.ones(()), ts)[-1]

    def reference(a):
      # One step of Euler's method, which is exact enough for this time.
      return 1. + ts[-1] * KINDS[kind](a, jnp.ones(()))

    for f, expected in (solve, reference), (
        jax.grad(solve), jax.grad(reference)):
      for a in .25, .5:  # JAX may trace something anew for the second call.
        f(jnp.array(a))
      a = jnp.array(.75)
      with jtu.count_jit_and_pmap_lowerings() as count:
        out = f(a)
      self.assertEqual(count(), 0)
      self.assertAllClose(out, expected(a), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
