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

``KINDS`` has what people write into the dynamics of an equation, as functions
of ``a`` and ``y``. All functions are at top level, so that two closures over
one kind share the function that they call.
"""

from functools import partial

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import closure_to_pytree, linear_call
from jax.experimental import io_callback
from jax.experimental import pallas as pl
from jax.experimental.ode import odeint


@jax.custom_jvp
def jvp_rule(x):
  return jnp.sin(x)

@jvp_rule.defjvp
def _jvp_rule(primals, tangents):
  return jvp_rule(*primals), jnp.cos(primals[0]) * tangents[0]

@jax.custom_jvp
def jvp_rules(x):
  return jnp.sin(x)

jvp_rules.defjvps(lambda t, ans, x: jnp.cos(x) * t)

@partial(jax.custom_jvp, nondiff_argnums=(0,))
def jvp_nondiff(mode, x):
  return jnp.sin(x)

@jvp_nondiff.defjvp
def _jvp_nondiff(mode, primals, tangents):
  return jvp_nondiff(mode, *primals), jnp.cos(primals[0]) * tangents[0]

def with_vjp(fun, derivative=jnp.cos, **options):
  f = jax.custom_vjp(fun, **options)
  f.defvjp(lambda x: (f(x), x), lambda x, g: (g * derivative(x),))
  return f

vjp_rule = with_vjp(jnp.sin)

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def vjp_nondiff(n, x):
  return n * jnp.sin(x)

vjp_nondiff.defvjp(lambda n, x: (n * jnp.sin(x), x),
                   lambda n, x, g: (g * n * jnp.cos(x),))

@custom_vmap
def vmap_rule(x):
  return jnp.sin(x)

@vmap_rule.def_vmap
def _vmap_rule(axis_size, in_batched, x):
  return vmap_rule(x), in_batched[0]

@jax.custom_gradient
def gradient(x):
  return x ** 2, lambda g: (2. * g * x,)

batched = with_vjp(vmap_rule)

def _scale(r, y):
  return r * y

def linear(x):
  return linear_call(_scale, _scale, 2., x)

def _sin(x):
  return np.sin(x)

class _Model:

  def sin(self, x):
    return np.sin(x)

  def dynamics(self, x):
    return jnp.sin(x)

_model = _Model()
_jitted_method = jax.jit(_model.dynamics)
_jitted_rule = jax.jit(jvp_rule)

def _callback(call, fun):
  return with_vjp(lambda x: call(fun, jax.typeof(x), x))

_pure = partial(jax.pure_callback, vmap_method="sequential")
callback = _callback(_pure, _sin)
callback_method = _callback(_pure, _model.sin)
callback_partial = with_vjp(lambda x: jax.pure_callback(
    partial(np.multiply, 1.5), jax.typeof(x), x, vmap_method="sequential"))

def callback_io(y):
  y = lax.stop_gradient(y)
  return io_callback(_sin, jax.typeof(y), y)

def _observed(fun, y):
  jax.debug.callback(fun, y)
  return jnp.sin(y)

def _printed(y):
  jax.debug.print("{y}", y=y)
  return jnp.sin(y)

def _kernel(x_ref, out_ref):
  out_ref[...] = jnp.sin(x_ref[...])

def _pallas(x):
  return pl.pallas_call(
      _kernel, out_shape=jax.ShapeDtypeStruct((1,), x.dtype),
      interpret=True)(x[None])[0]

def _pallas_blocks(x):
  spec = pl.BlockSpec((1,), lambda i: (i,))
  return pl.pallas_call(
      _kernel, grid=(1,), in_specs=[spec], out_specs=spec,
      out_shape=jax.ShapeDtypeStruct((1,), x.dtype), interpret=True)(x[None])[0]

pallas, pallas_blocks = with_vjp(_pallas), with_vjp(_pallas_blocks)

def _newton(f, x0, *aux):
  step = lambda _, x: x - f(x, *aux) / jax.grad(f)(x, *aux)
  return lax.fori_loop(0, 5, step, x0)

_root_jvp = jax.custom_jvp(_newton, nondiff_argnums=(0,))

@_root_jvp.defjvp
def _root_jvp_rule(f, primals, tangents):
  x, (_, *aux), (_, *aux_dot) = _root_jvp(f, *primals), primals, tangents
  _, f_dot = jax.jvp(partial(f, x), aux, aux_dot)
  return x, -f_dot / jax.grad(f)(x, *aux)

_root_vjp = jax.custom_vjp(_newton, nondiff_argnums=(0,))

def _root_vjp_bwd(f, res, g):
  x, aux = res
  _, vjp_fun = jax.vjp(partial(f, x), *aux)
  return jnp.zeros_like(x), *vjp_fun(-g / jax.grad(f)(x, *aux))

def _root_vjp_fwd(f, x0, *aux):
  x = _root_vjp(f, x0, *aux)
  return x, (x, aux)

_root_vjp.defvjp(_root_vjp_fwd, _root_vjp_bwd)

def root(f, solve=_root_jvp):
  converted, aux = jax.closure_convert(f, 1.)
  return solve(converted, 1., *aux)

@jax.custom_jvp
def _root_tree(f, x0):
  return _newton(lambda x: f(x), x0)

@_root_tree.defjvp
def _root_tree_jvp(primals, tangents):
  (f, x0), (f_dot, _) = primals, tangents
  x = _root_tree(f, x0)
  _, out_dot = jax.jvp(lambda f: f(x), (f,), (f_dot,))
  return x, -out_dot / jax.grad(lambda x: f(x))(x)

def root_tree(f):
  return _root_tree(closure_to_pytree(f, 1.), 1.)

def _cubic(b):
  return lambda x: x ** 3 + x - b

def _scan(fun):
  return lambda y: lax.scan(lambda c, _: (fun(c), None), y, None, length=2)[0]

# A function that jax.closure_convert converts keeps a concrete array, which is
# another constant for each closure. So `a` is outside of such a function.
KINDS = {
    "jvp": lambda a, y: -a * jvp_rule(y),
    "jvps": lambda a, y: -a * jvp_rules(y),
    "jvp_nondiff": lambda a, y: -a * jvp_nondiff("mode", y),
    "vjp": lambda a, y: -a * vjp_rule(y),
    "vjp_nondiff": lambda a, y: -a * vjp_nondiff(3., y),
    "jvp_in_scan": lambda a, y: -a * _scan(jvp_rule)(y),
    "vjp_in_scan": lambda a, y: -a * _scan(vjp_rule)(y),
    "jvp_in_cond": lambda a, y: lax.cond(
        y > 0, lambda: -a * jvp_rule(y), lambda: a * y),
    "vjp_in_switch": lambda a, y: lax.switch(
        jnp.int32(y), [lambda: -a * vjp_rule(y), lambda: a * y]),
    "jvp_in_while": lambda a, y: -a * y + lax.stop_gradient(lax.while_loop(
        lambda c: c < 1., lambda c: c + jvp_rule(c) + 1., y)),
    "jvp_in_checkpoint": lambda a, y: -a * jax.checkpoint(jvp_rule)(y),
    "vjp_in_checkpoint_with_policy": lambda a, y: -a * jax.checkpoint(
        vjp_rule, policy=jax.checkpoint_policies.save_only_these_names("z"))(y),
    "jvp_in_vmap": lambda a, y: -a * jax.vmap(jvp_rule)(y[None])[0],
    "jvp_in_grad": lambda a, y: -jax.grad(lambda y: a * jvp_rule(y) ** 2)(y),
    "vjp_in_vjp": lambda a, y: -a * jax.vjp(vjp_rule, y)[1](y)[0],
    "jvp_in_jit": lambda a, y: -a * _jitted_rule(y),
    "jitted_method": lambda a, y: -a * _jitted_method(y),
    "custom_gradient": lambda a, y: -a * gradient(y),
    "linear_call": lambda a, y: -a * linear(y),
    "custom_vmap": lambda a, y: -a * batched(y),
    "custom_vmap_in_vmap": lambda a, y: -a * jax.vmap(batched)(y[None])[0],
    "pure_callback": lambda a, y: -a * callback(y),
    "pure_callback_of_a_method": lambda a, y: -a * callback_method(y),
    "pure_callback_of_a_partial": lambda a, y: -a * callback_partial(y),
    "io_callback": lambda a, y: -a * y * callback_io(y),
    "debug_callback": lambda a, y: -a * _observed(_sin, y),
    "debug_callback_of_a_method": lambda a, y: -a * _observed(_model.sin, y),
    "debug_print": lambda a, y: -a * _printed(y),
    "pallas": lambda a, y: -a * pallas(y),
    "pallas_with_blocks": lambda a, y: -a * pallas_blocks(y),
    "rules_of_jax": lambda a, y: -a * jax.nn.silu(jax.nn.relu(y)),
    "logsumexp": lambda a, y: -jax.nn.logsumexp(jnp.stack([a, y])),
    "linear_solve": lambda a, y: -jnp.linalg.solve(
        jnp.eye(1) * (2. + a), y[None])[0],
    "expm": lambda a, y: -a * jax.scipy.linalg.expm(y[None, None])[0, 0],
    "custom_root": lambda a, y: -lax.custom_root(
        _cubic(a * y), 1., lambda f, x: _newton(lambda x: f(x), x),
        lambda g, y: y / g(1.)),
    "root_jvp": lambda a, y: -a * root(_cubic(y)),
    "root_vjp": lambda a, y: -a * root(_cubic(y), _root_vjp),
    "root_tree": lambda a, y: -root_tree(_cubic(a * y)),
    "root_in_root": lambda a, y: -a * root(
        lambda x: root(_cubic(x * y)) + x - y),
    "root_tree_in_root_tree": lambda a, y: -root_tree(
        lambda x: root_tree(_cubic(a * x)) + x - a * y),
    "odeint": lambda a, y: -odeint(
        lambda z, t: -a * z, y, jnp.array([0., .1]))[-1],
}
