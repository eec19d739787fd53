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

"""The solvers of docs/examples/implicit_solvers.py have the right derivatives.

The script itself checks roots, first and second derivatives, and that nothing
is compiled for a fresh closure. These are the cases that it leaves out. The
references are formulas, `jax.lax.custom_root`, and differentiating straight
through the iterations.
"""

import functools
import importlib.util
import pathlib

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()

_EXAMPLE = (pathlib.Path(__file__).parents[2] / "docs" / "examples" /
            "implicit_solvers.py")
_spec = importlib.util.spec_from_file_location("implicit_solvers", _EXAMPLE)
solvers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(solvers)

START = np.array([1., .5])
A = np.array([[.1, .2], [.3, -.1], [.2, .4]])

def coupled(a, i):
  # A closure over an array and an integer; x is near 1 for small positive a.
  def f(x):
    return x ** 3 + a[i] * jnp.sin(x[::-1]) - 1.
  return f

SOLVERS = {
    "find_root": solvers.find_root,
    "custom_root": lambda f, x0: solvers.custom_root(
        f, x0, solvers.newton, solvers.jacobian_solve)}


class ImplicitSolversTest(jtu.JaxTestCase):

  def assertClose(self, x, y):
    rtol = 1e-9 if jax.config.jax_enable_x64 else 1e-4
    self.assertAllClose(x, y, rtol=rtol, atol=rtol, check_dtypes=False)

  @parameterized.parameters(
      ("find_root", jax.jacrev, jax.jacrev),
      ("custom_root", jax.jacrev, jax.jacfwd),
      ("custom_root", jax.jacfwd, jax.jacfwd, jax.jacfwd))
  def test_both_modes_and_every_order(self, solver, *modes):
    def derivative(solve):
      f = lambda b: solve(coupled(b[None] * jnp.array(A), 1), START)
      for mode in modes:
        f = mode(f)
      return jax.jit(f)(jnp.array([1., 2.]))
    self.assertClose(derivative(SOLVERS[solver]), derivative(solvers.newton))

  def test_pytrees_and_auxiliary_results(self):
    def solve(f, x):
      for _ in range(2):  # solves this triangular system exactly
        y = f(x)
        x = {"u": x["u"] - y["u"] / 2., "v": x["v"] - y["v"]}
      return x, {"steps": jnp.array([2, 2]), "residual": f(x)["u"]}

    def tangent_solve(g, y):
      flat, unravel = jax.flatten_util.ravel_pytree(y)
      matrix = jax.jacobian(
          lambda v: jax.flatten_util.ravel_pytree(g(unravel(v)))[0])(flat)
      return unravel(jnp.linalg.solve(matrix, flat))

    def run(a):
      f = lambda x: {"u": 2. * x["u"] - a, "v": x["v"] - x["u"] ** 2 * a}
      guess = {"u": jnp.ones(2), "v": jnp.zeros(2)}
      x, aux = solvers.custom_root(f, guess, solve, tangent_solve, has_aux=True)
      return jnp.sum(x["u"] + x["v"]) + jnp.sum(aux["residual"]), aux["steps"]

    a = jnp.array([.3, .6])
    (value, steps), gradient = jax.value_and_grad(run, has_aux=True)(a)
    self.assertClose(value, jnp.sum(a / 2 + a ** 3 / 4))
    self.assertClose(gradient, .5 + 3 * a ** 2 / 4)
    self.assertEqual(steps.dtype, "int32")

  def test_captured_by_the_methods_to_solve_by(self):
    # They are differentiated where that matters: in the second derivative.
    def run(custom_root, a):
      # A damped method that converges, and a tangent that is too large by a.
      solve = lambda f, x: lax.fori_loop(
          0, 200, lambda _, x: x - f(x) * (.2 + 0. * a), x)
      return custom_root(lambda x: x ** 3 - a, 1. + 0. * a, solve,
                         lambda g, y: a * y / g(1.))
    for transform in jax.jacfwd, jax.hessian:
      got, expected = (
          jax.jit(transform(functools.partial(run, custom_root)))(1.5)
          for custom_root in (solvers.custom_root, lax.custom_root))
      self.assertClose(got, expected)

  @parameterized.parameters(*SOLVERS)
  def test_guess_that_is_captured_too(self, solver):
    f = lambda a: SOLVERS[solver](lambda x: x ** 3 - a, a)
    self.assertClose(jax.jit(jax.jacrev(f))(jnp.ones(2) * 2),
                     np.eye(2) * 2. ** (-2 / 3) / 3)

  @parameterized.parameters(*SOLVERS)
  def test_keys_and_booleans(self, solver):
    def run(solve, a, key, mask):
      noise = lambda: jax.random.uniform(key, (2,), dtype=a.dtype)
      noise_outside = noise()
      return jnp.sum(solve(
          lambda x: x ** 3 - jnp.where(mask, a, 1.) * (1. + noise_outside) +
          0. * noise(), START))
    args = jnp.array([.5, 2.]), jax.random.key(0), jnp.array([True, False])
    got, expected = (jax.jit(jax.grad(functools.partial(run, solve)))(*args)
                     for solve in (SOLVERS[solver], solvers.newton))
    self.assertClose(got, expected)
    self.assertEqual(got[1], 0.)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
