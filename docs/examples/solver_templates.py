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

"""Templates of a root finder that takes closures, and a check of all of them.

Choose one `linear_solve`, for the kind of unknown, and one `root`, for the
modes of differentiation:

  scalar_solve, vector_solve, pytree_solve     solve with the Jacobian of f

  root_forward         custom_jvp and closure_convert: both modes, every order
  root_reverse         custom_vjp and closure_convert: reverse mode
  root_pytree          custom_jvp and closure_to_pytree: both modes, every order
  root_pytree_reverse  custom_vjp and closure_to_pytree: reverse mode

To make a solver of your own, change the two lines that are marked. Run the
check by `python -m jax_patch docs/examples/solver_templates.py`.
"""

from functools import partial
import operator
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_map

### Newton's method for a number and for a vector, for the pages of the docs

def newton(f, x0, *aux):
  step = lambda _, x: x - f(x, *aux) / jax.grad(f)(x, *aux)
  return jax.lax.fori_loop(0, 20, step, x0)

def newton_vector(f, x0, *aux):
  def step(_, x):
    return x - jnp.linalg.solve(jax.jacobian(f)(x, *aux), f(x, *aux))
  return jax.lax.fori_loop(0, 8, step, x0)

### Solves J z = y for the Jacobian J of f at x, or J^T z = y

def scalar_solve(f, x, y, transpose=False):
  return y / jax.grad(f)(x)

def vector_solve(f, x, y, transpose=False):
  J = jax.jacobian(f)(x)
  return jnp.linalg.solve(J.T if transpose else J, y)

def pytree_solve(f, x, y, transpose=False):
  x_flat, unravel = ravel_pytree(x)
  y_flat, _ = ravel_pytree(y)
  f_flat = lambda x: ravel_pytree(f(unravel(x)))[0]
  return unravel(vector_solve(f_flat, x_flat, y_flat, transpose))

linear_solve = pytree_solve  # It takes numbers and vectors, too.

### Newton's method for all three

def iterate(f, x0):
  def step(_, x):
    return tree_map(operator.sub, x, linear_solve(f, x, f(x)))
  return jax.lax.fori_loop(0, 20, step, x0)

### Forward rule, closure_convert

def root_forward(f, x0):
  f_converted, aux = jax.closure_convert(f, x0)
  return _root_forward(f_converted, x0, *aux)

@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _root_forward(f, x0, *aux):
  return iterate(lambda x: f(x, *aux), x0)  # Change this line,

@_root_forward.defjvp
def _root_forward_jvp(f, primals, tangents):
  (_, *aux), (_, *aux_dot) = primals, tangents
  x = _root_forward(f, *primals)
  _, y_dot = jax.jvp(lambda *aux: f(x, *aux), aux, aux_dot)
  x_dot = linear_solve(lambda x: f(x, *aux), x, y_dot)  # and this one.
  return x, tree_map(operator.neg, x_dot)

### Reverse rule, closure_convert

def root_reverse(f, x0):
  f_converted, aux = jax.closure_convert(f, x0)
  return _root_reverse(f_converted, x0, *aux)

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _root_reverse(f, x0, *aux):
  return iterate(lambda x: f(x, *aux), x0)  # Change this line,

def _root_reverse_fwd(f, x0, *aux):
  x = _root_reverse(f, x0, *aux)
  return x, (x, aux)

def _root_reverse_bwd(f, residuals, x_bar):
  x, aux = residuals
  y_bar = linear_solve(lambda x: f(x, *aux), x, x_bar, True)  # and this one.
  _, vjp = jax.vjp(lambda *aux: f(x, *aux), *aux)
  return tree_map(jnp.zeros_like, x), *vjp(tree_map(operator.neg, y_bar))

_root_reverse.defvjp(_root_reverse_fwd, _root_reverse_bwd)

### Forward rule, closure_to_pytree

def root_pytree(f, x0):
  f = jax.custom_derivatives.closure_to_pytree(f, x0)
  return jax.jit(_root_pytree)(f, x0)

@jax.custom_jvp
def _root_pytree(f, x0):
  return iterate(f, x0)  # Change this line,

@_root_pytree.defjvp
def _root_pytree_jvp(primals, tangents):
  (f, _), (f_dot, _) = primals, tangents
  x = _root_pytree(*primals)
  _, y_dot = jax.jvp(lambda f: f(x), (f,), (f_dot,))
  x_dot = linear_solve(f, x, y_dot)  # and this one.
  return x, tree_map(operator.neg, x_dot)

### Reverse rule, closure_to_pytree

def root_pytree_reverse(f, x0):
  f = jax.custom_derivatives.closure_to_pytree(f, x0)
  return jax.jit(_root_pytree_reverse)(f, x0)

@jax.custom_vjp
def _root_pytree_reverse(f, x0):
  return iterate(f, x0)  # Change this line,

def _root_pytree_reverse_fwd(f, x0):
  x = _root_pytree_reverse(f, x0)
  return x, (f, x)

def _root_pytree_reverse_bwd(residuals, x_bar):
  f, x = residuals
  y_bar = linear_solve(f, x, x_bar, True)  # and this one.
  _, vjp = jax.vjp(lambda f: f(x), f)
  return *vjp(tree_map(operator.neg, y_bar)), tree_map(jnp.zeros_like, x)

_root_pytree_reverse.defvjp(
    _root_pytree_reverse_fwd, _root_pytree_reverse_bwd)

### The check

FORMS = {"forward": root_forward, "reverse": root_reverse,
         "pytree": root_pytree, "pytree, reverse": root_pytree_reverse}

# Equations with the solution sqrt(a[i]), and the functions that read it.
KINDS = {
    "scalar": (lambda a, i: lambda x: x ** 2 - a[i], 1., lambda x: x),
    "vector": (lambda a, i: lambda x: jnp.stack(
        [x[0] ** 2 - a[i], x[1] - x[0]]), jnp.ones(2), lambda x: x[1]),
    "pytree": (lambda a, i: lambda x: {
        "p": x["p"] ** 2 - a[i], "q": x["q"] - x["p"]},
        {"p": 1., "q": 1.}, lambda x: x["q"])}

def main():
  a, derivative = jnp.array([4., 9.]), jnp.array([0., 1 / 6])
  second = jnp.diag(jnp.array([0., -1 / 108]))
  for form, root in FORMS.items():
    for kind, (make, x0, read) in KINDS.items():
      solution = jax.jit(lambda a, i: read(root(make(a, i), x0)))
      modes = {jax.grad: derivative}
      if "reverse" not in form:
        modes |= {jax.jacfwd: derivative, jax.hessian: second}
      for mode, expected in modes.items():
        actual = mode(solution)(a, 1)
        assert jnp.allclose(actual, expected, rtol=1e-5), (form, kind, actual)
      names = ", ".join(mode.__name__ for mode in modes)
      print(f"{form:<16} {kind:<7} {names}: right")

if __name__ == "__main__":
  main()
