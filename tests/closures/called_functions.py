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

"""Functions that closures call: custom rules, callbacks, other solvers.

``CALLED`` has what people write into the dynamics of an equation, as functions
of a matrix. They are at top level, so that two closures over one share it.
"""

from functools import partial

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import closure_to_pytree, linear_call
from jax.experimental import pallas as pl
from jax.experimental.ode import odeint

from capture_kinds import root_straight_through, WAYS


jvp_rule = jax.custom_jvp(jnp.sin)
jvp_rule.defjvps(lambda t, ans, x: jnp.cos(x) * t)

def with_vjp(fun):
  f = jax.custom_vjp(fun)
  f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.cos(x),))
  return f

vjp_rule = with_vjp(lambda x: jnp.sin(x))

vmap_rule = jax.custom_batching.custom_vmap(jnp.sin)
vmap_rule.def_vmap(lambda size, batched, x: (jnp.sin(x), batched[0]))
batched = with_vjp(vmap_rule)

_late = jax.custom_vjp(lambda x: 2. * x)
_jitted_late = jax.jit(_late)  # JAX keeps its trace, and so its rule.
_late.defvjp(lambda x: (2. * x, x), lambda x, g: (3. * g * x,))

_square = jax.custom_gradient(lambda x: (x ** 2, lambda g: (2. * g * x,)))

def _scale(r, x):
  return r * x

class _Model:

  def sin(self, x):
    return np.sin(x)

_model = _Model()

def _callback(make):  # A new function of Python in each trace.
  return with_vjp(lambda x: jax.pure_callback(
      make(), jax.typeof(x), x, vmap_method="sequential"))

def _observed(x):
  jax.debug.callback(_model.sin, x)
  jax.debug.print("{}", x)
  return jnp.sin(x)

def _kernel(x_ref, out_ref):
  out_ref[...] = jnp.sin(x_ref[...])

def _pallas(**kwargs):
  return with_vjp(lambda x: pl.pallas_call(
      _kernel, out_shape=jax.ShapeDtypeStruct((3, 3), x.dtype), interpret=True,
      **kwargs)(x))

_row = pl.BlockSpec((1, 3), lambda i: (i, 0))

_call_tree = jax.jit(lambda f, x: f(x))

def _tree(x):
  return _call_tree(closure_to_pytree(lambda z: jnp.sin(x * z), x), x)

def _cubic_root(solve):
  return lambda x: solve(lambda z: z ** 3 + z - x, jnp.ones_like(x))

def _custom_root(x):
  return lax.custom_root(lambda z: z ** 3 + z - x, jnp.ones_like(x),
                         root_straight_through,
                         lambda g, y: y / g(jnp.ones_like(y)))

CALLED = {
    "jvp": jvp_rule,
    "jvp_in_grad": jax.grad(lambda x: jnp.sum(jvp_rule(x) ** 2)),
    "vjp_in_vjp": lambda x: jax.vjp(vjp_rule, x)[1](x)[0],
    "vjp_in_vmap": jax.vmap(vjp_rule),
    "vjp_in_scan": lambda x: lax.scan(
        lambda x, _: (vjp_rule(x), None), x, None, length=2)[0],
    "vjp_in_jit": _jitted_late, "custom_gradient": _square,
    "linear_call": partial(linear_call, _scale, _scale, 2.),
    "custom_vmap": jax.vmap(batched),
    "callback_of_a_method": _callback(lambda: _model.sin),
    "callback_of_a_partial": _callback(
        lambda: partial(np.multiply, 1.5)),
    "debug_callback": _observed,
    "pallas": _pallas(),
    "pallas_with_blocks": _pallas(grid=(3,), in_specs=[_row], out_specs=_row),
    "custom_root": _custom_root,
    **{f"root_{way}": _cubic_root(solve) for way, solve in WAYS.items()},
    "tree": _tree,
    "odeint": lambda x: odeint(
        lambda z, t: -x * z, x, jnp.array([0., .1]))[-1],
}
