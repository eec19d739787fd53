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

The references are `jax.lax.custom_root`, SciPy, and differentiating straight
through the iterations.
"""

import functools
import importlib.util
import pathlib

from absl.testing import absltest, parameterized
import numpy as np
import scipy.optimize

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

def by_custom_root(f, x0):
  return solvers.custom_root(f, x0, solvers.newton, solvers.jacobian_solve)

def by_lax(f, x0):
  return lax.custom_root(f, x0, solvers.newton, solvers.jacobian_solve)

def loss(solve, a, i):
  return jnp.sum(jnp.cos(solve(coupled(a, i), START)))

@functools.cache
def gradient(solve):
  return jax.jit(jax.grad(
      lambda a: sum(loss(solve, a, i) for i in range(3))))(jnp.array(A))

SOLVERS = {"find_root": solvers.find_root, "custom_root": by_custom_root}


class ImplicitSolversTest(jtu.JaxTestCase):

  def assertClose(self, x, y):
    rtol = 1e-9 if jax.config.jax_enable_x64 else 1e-4
    self.assertAllClose(x, y, rtol=rtol, atol=rtol, check_dtypes=False)

  @parameterized.parameters(*SOLVERS)
  def test_root(self, solver):
    def solve(a, i):
      return SOLVERS[solver](coupled(a, i), START)
    for i in range(3):
      with jax.enable_x64(True):
        expected = scipy.optimize.root(coupled(A, i), START, tol=1e-13).x
      for fun in (solve, jax.jit(solve)):
        self.assertClose(fun(jnp.array(A), jnp.array(i)), expected)

  @parameterized.product(
      solver=list(SOLVERS), transform=["none", "vmap", "scan"])
  def test_gradient(self, solver, transform):
    def total(a):
      one = functools.partial(loss, SOLVERS[solver])
      i = jnp.arange(3)
      if transform == "vmap":
        return jnp.sum(jax.vmap(one, (None, 0))(a, i))
      if transform == "scan":
        return lax.scan(lambda s, i: (s + one(a, i), None), 0. * a[0, 0], i)[0]
      return sum(map(functools.partial(one, a), i))

    a = jnp.array(A)
    got = jax.grad(total)(a)
    for solve in (by_lax, solvers.newton):
      self.assertClose(got, gradient(solve))

  @parameterized.parameters(*SOLVERS)
  def test_finite_differences(self, solver):
    modes = ["rev"] if solver == "find_root" else ["fwd", "rev"]
    jtu.check_grads(jax.jit(lambda a: SOLVERS[solver](coupled(a, 1), START)),
                    (jnp.array(A),), order=2, modes=modes, rtol=2e-2, atol=2e-2)

  @parameterized.parameters(
      (jax.jacfwd,), (jax.jacrev,), (jax.jacrev, jax.jacfwd),
      (jax.jacfwd, jax.jacfwd, jax.jacfwd))
  def test_both_modes_and_every_order(self, *modes):
    results = []
    for solve in (by_custom_root, by_lax, solvers.newton):
      f = lambda b: solve(coupled(b[None] * jnp.array(A), 1), START)
      for mode in modes:
        f = mode(f)
      results.append(jax.jit(f)(jnp.array([1., 2.])))
    self.assertClose(results[0], results[1])
    self.assertClose(results[0], results[2])

  def test_second_derivatives_by_a_reverse_rule(self):
    hessian = [jax.jit(jax.jacrev(jax.jacrev(
        lambda a: solve(coupled(a, 1), START))))(jnp.array(A))
        for solve in (solvers.find_root, solvers.newton)]
    self.assertClose(*hessian)

  def test_pytrees_and_auxiliary_results(self):
    def solve(f, x):
      def improve(state):
        x, n = state
        y = f(x)
        return {"u": x["u"] - y["u"] / 2., "v": x["v"] - y["v"]}, n + 1
      x, n = lax.while_loop(lambda s: s[1] < 60, improve, (x, jnp.int32(0)))
      return x, {"steps": n, "residual": f(x)["u"]}

    def tangent_solve(g, y):
      flat, unravel = jax.flatten_util.ravel_pytree(y)
      matrix = jax.jacobian(
          lambda v: jax.flatten_util.ravel_pytree(g(unravel(v)))[0])(flat)
      return unravel(jnp.linalg.solve(matrix, flat))

    def run(custom_root, a, solve=solve):
      f = lambda x: {"u": 2. * x["u"] - a * jnp.sin(x["v"]),
                     "v": x["v"] - .5 * jnp.cos(x["u"]) * a}
      guess = {"u": jnp.ones(2), "v": jnp.zeros(2)}
      x, aux = custom_root(f, guess, solve, tangent_solve, has_aux=True)
      return jnp.sum(x["u"] * x["v"]) + jnp.sum(aux["residual"]), (x, aux)

    def solve_without_integers(f, x):
      x, aux = solve(f, x)  # Some versions of lax.custom_root refuse them.
      return x, {**aux, "steps": 60.}

    a = jnp.array([.3, .6])
    got = jax.value_and_grad(functools.partial(
        run, solvers.custom_root), has_aux=True)(a)
    expected = jax.value_and_grad(functools.partial(
        run, lax.custom_root, solve=solve_without_integers), has_aux=True)(a)
    self.assertEqual(jax.tree.structure(got), jax.tree.structure(expected))
    jax.tree.map(self.assertClose, got, expected)
    self.assertEqual(got[0][1][1]["steps"].dtype, 'int32')

  def test_captured_by_the_methods_to_solve_by(self):
    # They are differentiated where that matters: in the second derivative.
    def run(custom_root, a):
      # A damped method that converges, and a tangent that is too large by a.
      solve = lambda f, x: lax.fori_loop(
          0, 200, lambda _, x: x - f(x) * (.2 + 0. * a), x)
      return custom_root(lambda x: x ** 3 - a, 1. + 0. * a, solve,
                         lambda g, y: a * y / g(1.))

    for transform in (lambda f: f, jax.jacfwd, jax.jacrev, jax.hessian):
      got, expected = (
          jax.jit(transform(functools.partial(run, custom_root)))(1.5)
          for custom_root in (solvers.custom_root, lax.custom_root))
      self.assertClose(got, expected)
    self.assertClose(jax.grad(functools.partial(run, solvers.custom_root))(1.5),
                     1.5 * 1.5 ** (-2 / 3) / 3)

  def test_guess_that_is_captured_too(self):
    def run(solve, a):
      return solve(lambda x: x ** 3 - a, a)
    for solve in (solvers.find_root, by_custom_root):
      got = jax.jit(jax.jacrev(functools.partial(run, solve)))(jnp.ones(2) * 2)
      self.assertClose(got, np.eye(2) * 2. ** (-2 / 3) / 3)

  @parameterized.parameters(*SOLVERS)
  def test_keys_and_booleans(self, solver):
    def run(solve, a, key, mask):
      noise = jax.random.uniform(key, (2,), dtype=a.dtype)
      return jnp.sum(solve(
          lambda x: x ** 3 - jnp.where(mask, a, 1.) * (1. + noise) +
          0. * jax.random.uniform(key, (2,), dtype=a.dtype), START))
    args = jnp.array([.5, 2.]), jax.random.key(0), jnp.array([True, False])
    got, expected = (jax.jit(jax.grad(functools.partial(run, solve)))(*args)
                     for solve in (SOLVERS[solver], solvers.newton))
    self.assertClose(got, expected)
    self.assertEqual(got[1], 0.)

  @parameterized.product(solver=list(SOLVERS), grad=[False, True])
  def test_fresh_closures_compile_nothing(self, solver, grad):
    def run(solve, a, i):
      loss = lambda a: jnp.sum(solve(coupled(a, i), START))
      return jax.grad(loss)(a) if grad else loss(a)

    values = [(jnp.array(k * A), jnp.array(i))
              for k, i in ((1., 0), (2., 1), (.5, 2))]
    expected = [run(solvers.newton, *v) for v in values]
    run(SOLVERS[solver], *values[0])
    with (jtu.count_jit_compilation_cache_miss() as misses,
          jtu.count_jit_and_pmap_lowerings() as lowerings):
      got = [run(SOLVERS[solver], *v) for v in values]
    self.assertEqual((misses(), lowerings()), (0, 0))
    jax.tree.map(self.assertClose, got, expected)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
