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

"""Two solvers that take closures, written with public functions of JAX.

`jax.custom_derivatives.closure_to_pytree` turns a closure into a pytree of its
captured values, which is an ordinary argument. The rules below do not deal with
closures, and one compiled solver serves all closures of a program.

  find_root    Newton's method, with a rule for gradients
  custom_root  like `jax.lax.custom_root`, with a rule for both modes and every
               order; the two solve functions are closures as well

They find how a chain of hardening springs hangs under one of several loads. The
script compares the results with SciPy, `jax.lax.custom_root`, derivatives
straight through Newton's iterations, and central differences. Then it solves
for other springs, and counts compilations.

Run it by `python -m jax_patch docs/examples/implicit_solvers.py`.
"""

import functools
import sys
import time

import jax
from jax.custom_derivatives import closure_to_pytree
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import scipy.optimize

### A root finder, with a rule for gradients

def newton(f, x):
  def improve(_, x):
    return x - jnp.linalg.solve(jax.jacobian(f)(x), f(x))
  return jax.lax.fori_loop(0, 12, improve, x)

newton_vjp = jax.custom_vjp(newton)

def newton_fwd(f, x0):
  x = newton_vjp(f, x0)
  return x, (f, x)

def newton_bwd(residuals, x_bar):  # dx = -(df/dx)^{-1} df
  f, x = residuals
  adjoint = jnp.linalg.solve(jax.jacobian(f)(x).T, -x_bar)
  _, vjp_f = jax.vjp(lambda f: f(x), f)
  return *vjp_f(adjoint), jnp.zeros_like(x)

newton_vjp.defvjp(newton_fwd, newton_bwd)
jitted_newton = jax.jit(newton_vjp)

def find_root(f, x0):
  """Finds a root of `f`, from vectors to vectors, near `x0`."""
  return jitted_newton(closure_to_pytree(f, x0), x0)

### Like `jax.lax.custom_root`

def custom_root(f, initial_guess, solve, tangent_solve, has_aux=False):
  """Returns `solve(f, initial_guess)`, differentiable with respect to `f`.

  Args:
    f: function of a pytree of arrays, which returns another such pytree.
    initial_guess: such a pytree.
    solve: returns a root of `f`, given `f` and an initial guess. It need not be
      differentiable.
    tangent_solve: returns `x` such that `g(x) == y`, given a linear function
      `g` and `y`. It must be differentiable.
    has_aux: whether `solve` returns a pair of the root and further arrays.
  """
  def solve_linearized(f, x, y):
    return tangent_solve(jax.linearize(f, x)[1], y)
  f = closure_to_pytree(f, initial_guess)
  return jitted_solve_by(
      has_aux, f, initial_guess, closure_to_pytree(solve, f, initial_guess),
      closure_to_pytree(solve_linearized, f, initial_guess, initial_guess))

@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_by(has_aux, f, initial_guess, solve, solve_linearized):
  return solve(f, initial_guess)

@solve_by.defjvp
def solve_by_jvp(has_aux, primals, tangents):
  f, _, _, solve_linearized = primals
  f_dot, *_ = tangents
  solution = solve_by(has_aux, *primals)
  x, aux = solution if has_aux else (solution, None)
  _, y_dot = jax.jvp(lambda f: f(x), (f,), (f_dot,))
  x_dot = jax.tree.map(jnp.negative, solve_linearized(f, x, y_dot))
  if has_aux:
    x_dot = x_dot, jax.tree.map(zero_tangent, aux)
  return solution, x_dot

jitted_solve_by = jax.jit(solve_by, static_argnums=0)

def zero_tangent(x):
  if jnp.issubdtype(x.dtype, jnp.inexact):
    return jnp.zeros_like(x)
  return np.zeros(x.shape, jax.dtypes.float0)

### The springs

def make_imbalance(springs, load):
  def imbalance(x):
    stretch = jnp.diff(x, prepend=0.)
    tension = stretch * (
        springs["stiffness"] + springs["hardening"] * stretch ** 2)
    return tension - jnp.append(tension[1:], 0.) - springs["loads"][load]
  return imbalance

def jacobian_solve(g, y):
  return jnp.linalg.solve(jax.jacobian(g)(y), y)

START = np.zeros(4)

SOLVERS = {
    "find_root": lambda f: find_root(f, START),
    "custom_root": lambda f: custom_root(f, START, newton, jacobian_solve),
    "lax.custom_root": lambda f: jax.lax.custom_root(
        f, START, newton, jacobian_solve),
    "unrolled": lambda f: newton(f, START)}

def loss(solver, springs, load):
  return jnp.sum(solver(make_imbalance(springs, load)) ** 2)

def draw_springs(seed):
  rng = np.random.default_rng(seed)
  return {"stiffness": jnp.array(rng.uniform(1., 2., 4)),
          "hardening": jnp.array(rng.uniform(1., 2.)),
          "loads": jnp.array(rng.uniform(0., 1., (3, 4)))}

### The check

def central_differences(fun, x, eps=1e-5):
  steps = eps * np.eye(x.size)
  return np.stack([(fun(x + d) - fun(x - d)) / (2 * eps) for d in steps])

def agree(name, reference, expected, results):
  # The largest entry is printed, and errors are relative to it.
  top = np.unravel_index(np.argmax(np.abs(expected)), np.shape(expected))
  print(f"{name:<10}{reference:<16}{expected[top]:13.8f}    error")
  errors = {k: np.max(np.abs(x - expected)) / np.abs(expected[top])
            for k, x in results.items()}
  for k, error in errors.items():
    print(f"{'':<10}{k:<16}{results[k][top]:13.8f}{error:9.0e}")
  return all(error < 1e-8 for error in errors.values())  # False for NaNs.

def check_derivatives(load=1):
  springs = draw_springs(0)
  p, unravel = ravel_pytree(springs)
  p_dot = jnp.cos(jnp.arange(p.size))
  # The number of the load is a traced integer, which is captured, too.
  losses = {k: jax.jit(lambda p, load, solver=solver: loss(
      solver, unravel(p), load)) for k, solver in SOLVERS.items()}
  grads = {k: jax.jit(jax.grad(f)) for k, f in losses.items()}
  both_modes = {k: f for k, f in losses.items() if k != "find_root"}

  imbalance = make_imbalance(springs, load)
  root = scipy.optimize.root(imbalance, START, tol=1e-13).x
  gradient, hessian = [
      central_differences(lambda p: f["unrolled"](p, load), p)
      for f in (losses, grads)]
  return all([
      agree("root", "SciPy", root,
            {k: solver(imbalance) for k, solver in SOLVERS.items()}),
      agree("gradient", "differences", gradient,
            {k: f(p, load) for k, f in grads.items()}),
      agree("tangent", "differences", gradient @ p_dot,
            {k: jax.jvp(lambda p: f(p, load), (p,), (p_dot,))[1]
             for k, f in both_modes.items()}),
      agree("Hessian", "differences", hessian,
            {k: jax.jit(jax.hessian(f))(p, load)
             for k, f in both_modes.items()})])

def count_compilations(repetitions=5):
  # Nothing here is under `jit`, so every solve has a fresh closure.
  compiled = []
  def on_event(name, *args, **kwargs):
    if name == "/jax/core/compile/backend_compile_duration":
      compiled.append(name)
  jax.monitoring.register_event_duration_secs_listener(on_event)
  counts = {}
  print("\nGradients for other springs, each a fresh closure:\n")
  for k, solver in SOLVERS.items():
    if k == "unrolled":
      continue
    grad = jax.grad(functools.partial(loss, solver))
    jax.block_until_ready(grad(draw_springs(0), jnp.array(0)))
    further = [(draw_springs(i), jnp.array(i % 3)) for i in range(repetitions)]
    compiled.clear()
    start = time.perf_counter()
    jax.block_until_ready([grad(springs, load) for springs, load in further])
    ms = (time.perf_counter() - start) / repetitions * 1e3
    counts[k] = len(compiled)
    print(f"{k:<16}{counts[k]:>4} programs compiled{ms:8.1f} ms each")
  return counts["find_root"] == counts["custom_root"] == 0

def main():
  jax.config.update("jax_enable_x64", True)  # For the finite differences.
  if not check_derivatives():
    sys.exit("FAILED: the derivatives disagree.")
  if not count_compilations():
    sys.exit("FAILED: something was compiled for a fresh closure.")

if __name__ == "__main__":
  main()
