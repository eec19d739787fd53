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

"""Closures that capture each kind of value, and solvers that take them."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax

NUM_STEPS = 7


# A root finder for functions that act on each element of their argument alone,
# so that a derivative and a division stand for a Jacobian and a linear solve.

def _slope(f, x, *aux):
  # Reverse mode: `f` may itself call a root finder that has no forward rule.
  y, vjp = jax.vjp(lambda x: f(x, *aux), x)
  return y, vjp(jnp.ones_like(y))[0]

def _newton_step(f, x, *aux):
  y, slope = _slope(f, x, *aux)
  return x - y / slope

# The reference: no custom rule, and nothing converted. A loop of fixed length
# differentiates in either mode, and compiles faster than one that is unrolled.

def root_straight_through(f, x0):
  return lax.fori_loop(0, NUM_STEPS, lambda _, x: _newton_step(f, x), x0)

# A while loop has no reverse derivative, so that a gradient shows that the rule
# was used.

def _root(f, x0, *aux):
  def step(carry):
    i, x = carry
    return i + 1, _newton_step(f, x, *aux)
  return lax.while_loop(lambda carry: carry[0] < NUM_STEPS, step, (0, x0))[1]

_root_vjp = jax.custom_vjp(_root, nondiff_argnums=(0,))

def _root_vjp_fwd(f, x0, *aux):
  x = _root_vjp(f, x0, *aux)
  return x, (x, aux)

def _root_vjp_bwd(f, res, x_bar):
  x, aux = res
  _, slope = _slope(f, x, *aux)
  _, vjp_aux = jax.vjp(lambda *aux: f(x, *aux), *aux)
  return 0. * x_bar, *vjp_aux(-x_bar / slope)

_root_vjp.defvjp(_root_vjp_fwd, _root_vjp_bwd)

_root_jvp = jax.custom_jvp(_root, nondiff_argnums=(0,))

@_root_jvp.defjvp
def _root_jvp_rule(f, primals, tangents):
  x = _root_jvp(f, *primals)
  aux, aux_dot = primals[1:], tangents[1:]
  _, slope = _slope(f, x, *aux)
  _, f_dot = jax.jvp(lambda *aux: f(x, *aux), aux, aux_dot)
  return x, -f_dot / slope

def _convert_and_solve(root, f, x0):
  f_converted, aux = jax.closure_convert(f, x0)
  return root(f_converted, x0, *aux)

WAYS = {
    "custom_vjp": functools.partial(_convert_and_solve, _root_vjp),
    "custom_jvp": functools.partial(_convert_and_solve, _root_jvp),
}


# The kinds of capture. Each closure is a cubic equation whose root is simple,
# positive and reached from 1. It captures theta, which is differentiated, and a
# value `c` of the kind. Stacks trace `c` by making it an argument: a value that
# is concrete does not leak.

class Kind(NamedTuple):
  value: Callable[[], Any]  # An example of `c`.
  spread: Callable[[Any, int], Any]  # So many variations of `c`, stacked.
  close_over: Callable[[Callable, Any, Any], Callable]  # root, theta, c -> f

KINDS = {}

def _kind(value, spread, name=None):
  def register(close_over):
    KINDS[name or close_over.__name__] = Kind(value, spread, close_over)
    return close_over
  return register

def spread_float(x, n):
  return x[None] * (1 + .1 * jnp.arange(n, dtype=x.dtype))[:, None]

_float = lambda: jnp.array([.9, .7]), spread_float
_complex = lambda: jnp.array([.5 + .3j, .2 + .7j]), spread_float
_int = (lambda: jnp.array(1),
        lambda i, n: (i + jnp.arange(n, dtype=i.dtype)) % 3)
_bool = (lambda: jnp.array([True, False]),
         lambda mask, n: mask[None] ^ (jnp.arange(n) % 2 == 1)[:, None])

def _cubic(x, a, b):
  return x ** 3 + a * x - b

@_kind(*_float, "float")
def _capture_float(root, theta, c):
  w = theta * c
  return lambda x: _cubic(x, 1 + w ** 2, w)

@_kind(*_float)
def float_unperturbed(root, theta, c):
  return lambda x: _cubic(x, 1 + c ** 2, theta)

# Captures both what is differentiated and what is not.
@_kind(*_complex, "complex")
def _capture_complex(root, theta, c):
  w = theta.astype(c.dtype) * c
  return lambda x: _cubic(x, 1 + (w * w.conj()).real, (w + c).real + w.imag)

_TABLE = np.array([.6, .9, 1.2])

@functools.cache
def _concrete_table():
  with jax.ensure_compile_time_eval():
    return jnp.asarray(_TABLE, jnp.result_type(float))

# Captures an array beside it that is concrete, and stays in the function.
@_kind(*_int, "int")
def _capture_int(root, theta, c):
  table = _concrete_table()
  return lambda x: _cubic(x, 1 + theta ** c, theta * table[c])

@_kind(*_bool, "bool")
def _capture_bool(root, theta, c):
  return lambda x: _cubic(x, 1., jnp.where(c, theta, theta ** 2))

@_kind(lambda: jax.random.PRNGKey(0), jax.random.split, "raw_key")
@_kind(lambda: jax.random.key(0), jax.random.split, "key")
def _capture_key(root, theta, c):
  return lambda x: _cubic(
      x, 1., theta * (.5 + jax.random.uniform(c, (2,), x.dtype)))

# Its residuals, a float and the mask, are captured through the function.
@_kind(*_bool)
def vjp_function(root, theta, c):
  _, vjp = jax.vjp(lambda y: lax.select(c, jnp.sin(theta * y), theta * y),
                   jnp.ones_like(theta))
  return lambda x: _cubic(x, 1., theta) + vjp(x)[0]

@_kind(*_int)
def converted_function(root, theta, c):
  g, aux = jax.closure_convert(
      lambda x: theta * jnp.asarray(_TABLE, x.dtype)[c] * x,
      jnp.ones_like(theta))
  return lambda x: _cubic(x, 1., theta) + g(x, *aux)

# The inner closure captures what the outer one does and the argument of that.
@_kind(*_bool)
def nested_root(root, theta, c):
  def f(x):
    rhs = theta + .2 * x
    return _cubic(x, 1., theta) + root(
        lambda y: _cubic(y, 1. + c.astype(y.dtype), rhs), jnp.ones_like(x))
  return f

# The inner function has a rule of its own, as well.
@_kind(*_bool)
def jitted_function(root, theta, c):
  inner = jax.jit(lambda x: jax.nn.relu(jnp.where(c, theta, 1.) * x))
  return lambda x: _cubic(x, 1., theta) + inner(x)


def tolerance() -> dict[str, float]:
  double = jax.config.jax_enable_x64
  return dict(atol=1e-9, rtol=1e-9) if double else dict(atol=2e-4, rtol=2e-4)
