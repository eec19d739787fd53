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
  coarse: bool = False  # Derivatives are rounded to bfloat16 on their way.

KINDS = {}

def _cubic(x, a, b):
  return x ** 3 + a * x - b

def spread_float(x, n):
  return x[None] * (1 + .1 * jnp.arange(n, dtype=x.dtype))[:, None]

def _spread_int(i, n):
  return (i + jnp.arange(n, dtype=i.dtype)) % 3

def _spread_bool(mask, n):
  return mask[None] ^ (jnp.arange(n) % 2 == 1)[:, None]

_spread_key = jax.random.split

def _float():
  return jnp.array([.9, .7])

def _complex():
  return jnp.array([.5 + .3j, .2 + .7j])

def _bfloat16():
  return jnp.array([.5, .75], jnp.bfloat16)

def _int():
  return jnp.array(1)

def _bool():
  return jnp.array([True, False])

def _kind(value, spread, name=None, **kwargs):
  def register(close_over):
    key = name or close_over.__name__
    KINDS[key] = Kind(value, spread, close_over, **kwargs)
    return close_over
  return register

_TABLE = np.array([.6, .9, 1.2])

def _lookup(i, dtype):
  return jnp.asarray(_TABLE, dtype)[i]

@_kind(_float, spread_float, "float")
def _capture_float(root, theta, c):
  w = theta * c
  return lambda x: _cubic(x, 1 + w ** 2, w)

@_kind(_float, spread_float)
def float_unperturbed(root, theta, c):
  return lambda x: _cubic(x, 1 + c ** 2, theta)

# Captures both what is differentiated and what is not, as does bfloat16.
@_kind(_complex, spread_float, "complex")
def _capture_complex(root, theta, c):
  w = theta.astype(c.dtype) * c
  return lambda x: _cubic(x, 1 + (w * w.conj()).real, (w + c).real + w.imag)

@functools.cache
def _concrete_table():
  with jax.ensure_compile_time_eval():
    return jnp.asarray(_TABLE, jnp.result_type(float))

# Captures an array beside it that is concrete, and stays in the function.
@_kind(_int, _spread_int, "int")
def _capture_int(root, theta, c):
  table = _concrete_table()
  return lambda x: _cubic(x, 1 + theta ** c, theta * table[c])

@_kind(_bool, _spread_bool, "bool")
def _capture_bool(root, theta, c):
  return lambda x: _cubic(x, 1., jnp.where(c, theta, theta ** 2))

@_kind(lambda: jax.random.key(0), _spread_key)
def key(root, theta, c):
  return lambda x: _cubic(
      x, 1., theta * (.5 + jax.random.uniform(c, (2,), x.dtype)))

@_kind(lambda: jax.random.PRNGKey(0), _spread_key)
def raw_key(root, theta, c):
  return lambda x: _cubic(
      x, 1., theta * (.5 + jax.random.uniform(c, (2,), x.dtype)))

@_kind(_bfloat16, spread_float, coarse=True)
def bfloat16(root, theta, c):
  w = theta.astype(c.dtype) * c
  return lambda x: _cubic(x, 1 + w.astype(x.dtype) ** 2,
                          (w + c).astype(x.dtype))

# Its residuals, a float and the mask, are captured through the function.
@_kind(_bool, _spread_bool)
def vjp_function(root, theta, c):
  _, vjp = jax.vjp(lambda y: lax.select(c, jnp.sin(theta * y), theta * y),
                   jnp.ones_like(theta))
  return lambda x: _cubic(x, 1., theta) + vjp(x)[0]

@_kind(_int, _spread_int)
def converted_function(root, theta, c):
  g, aux = jax.closure_convert(lambda x: theta * _lookup(c, x.dtype) * x,
                               jnp.ones_like(theta))
  return lambda x: _cubic(x, 1., theta) + g(x, *aux)

# The inner closure captures what the outer one does and the argument of that.
@_kind(_bool, _spread_bool)
def nested_root(root, theta, c):
  def f(x):
    rhs = theta + .2 * x
    return _cubic(x, 1., theta) + root(
        lambda y: _cubic(y, 1. + c.astype(y.dtype), rhs), jnp.ones_like(x))
  return f

@_kind(_float, spread_float)
def captured_twice(root, theta, c):
  inner = lambda x: theta * c * x
  def f(x):
    shift = lambda: inner(theta) + c
    return _cubic(x, theta, shift()) + inner(x)
  return f

# The inner function has a rule of its own, as well.
@_kind(_bool, _spread_bool)
def jitted_function(root, theta, c):
  inner = jax.jit(lambda x: jax.nn.relu(jnp.where(c, theta, 1.) * x))
  return lambda x: _cubic(x, 1., theta) + inner(x)


def tolerance(kind: str) -> dict[str, float]:
  if KINDS[kind].coarse:
    return dict(atol=2e-2, rtol=2e-2)
  double = jax.config.jax_enable_x64
  return dict(atol=1e-9, rtol=1e-9) if double else dict(atol=2e-4, rtol=2e-4)


class Problem:
  """What a stack works on: a function of theta and `c`, and their values."""

  def __init__(self, kind: str, root: Callable,
               close_over: Callable | None = None):
    self._root = root
    self._close_over = close_over or KINDS[kind].close_over
    self._spread = KINDS[kind].spread
    self.theta = jnp.array([.8, 1.1])
    self.c = KINDS[kind].value()

  def solve(self, theta, c, index=None):
    f = self._close_over(self._root, theta, c)
    if index is None:
      return self._root(f, jnp.ones_like(theta))
    # For loops to capture their own counter.
    g = lambda x: f(x) + .1 * index.astype(x.dtype) * x
    return self._root(g, jnp.ones_like(theta))

  def loss(self, *args):
    return jnp.sum(jnp.sin(self.solve(*args)))

  def spread(self, n):
    return spread_float(self.theta, n), self._spread(self.c, n)
