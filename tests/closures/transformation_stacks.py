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

"""Stacks of transformations of a solver whose closure captures a value.

A layer transforms a function of theta, a vector of two, and of `c`, the value
that the closure captures. The function returns a list of inexact arrays, as the
transformed one does: layers fit together in any order. Each names `c` as an
argument of whatever it transforms, so that `c` is traced there.
"""

import functools

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec as P

from capture_kinds import KINDS, spread_float

NUM_DEVICES = 8

LAYERS = {}

def _layer(make, name=None):
  # `make(f, spread)` returns the function that `f` is transformed to, where
  # `spread(c, n)` makes a batch of `c`.
  LAYERS[name or make.__name__.removeprefix("_")] = make
  return make

def _sum(outs):
  return sum(jnp.sum(jnp.sin(x)) for x in outs)

for _transform in jax.grad, jax.value_and_grad, jax.jacrev, jax.jacfwd:
  def _derivative(f, spread, transform=_transform):
    g = transform(lambda theta, c: _sum(f(theta, c)))
    return lambda theta, c: jax.tree.leaves(g(theta, c))
  _layer(_derivative, _transform.__name__)

@_layer
def vjp_of_all_arguments(f, spread):
  # The captured value gets a JVP tracer too, though its tangent type be float0.
  def g(theta, c):
    outs, vjp = jax.vjp(f, theta, c)
    return [*outs, vjp([jnp.cos(x) for x in outs])[0]]
  return g

@_layer
def jvp(f, spread):
  def g(theta, c):
    outs, outs_dot = jax.jvp(lambda theta: f(theta, c), (theta,),
                             (jnp.cos(theta),))
    return outs + outs_dot
  return g

@_layer
def linearize(f, spread):
  def g(theta, c):
    outs, f_jvp = jax.linearize(lambda theta: f(theta, c), theta)
    return outs + f_jvp(jnp.cos(theta))
  return g

_layer(lambda f, spread: jax.jit(f), "jit")
_layer(lambda f, spread: jax.checkpoint(f), "remat")

def _vmap(f, spread, axes=(0, 0)):
  def g(theta, c):
    return jax.vmap(f, axes)(
        *[batch(x, 2) if axis == 0 else x for axis, batch, x in
          zip(axes, (spread_float, spread), (theta, c))])
  return g

_layer(_vmap)
_layer(functools.partial(_vmap, axes=(None, 0)), "vmap_unbatched_theta")
_layer(functools.partial(_vmap, axes=(0, None)), "vmap_unbatched_capture")

@_layer
def shard_map(f, spread):
  # The leading axes of theta and `c` are split over the devices.
  def g(theta, c):
    mesh = Mesh(np.array(jax.devices()[:NUM_DEVICES]), ("i",))
    # Without jit, each operation would run on each device in turn.
    return jax.jit(jax.shard_map(
        jax.vmap(f), mesh=mesh, in_specs=P("i"), out_specs=P("i")))(
            spread_float(theta, NUM_DEVICES), spread(c, NUM_DEVICES))
  return g

@_layer
def scan(f, spread):
  def g(theta, c):
    def step(s, c):
      outs = f(theta * (1. + .1 * jnp.sin(s)), c)
      return s + .1 * _sum(outs), outs
    s, outs = lax.scan(step, jnp.zeros(()), spread(c, 2))
    return [s, *outs]
  return g

@_layer
def map(f, spread):
  return lambda theta, c: lax.map(lambda c: f(theta, c), spread(c, 2))

@_layer
def scan_capturing_its_index(f, spread):
  def g(theta, c):
    step = lambda s, i: (s, f(theta * (1. + .1 * i), c))
    return lax.scan(step, None, jnp.arange(2))[1]
  return g

def _fori_loop(f, spread, num_steps=lambda theta: 2):
  # Of fixed length, so that it differentiates in reverse mode.
  def g(theta, c):
    cs = spread(c, 2)
    step = lambda i, theta: theta * (1. + .1 * jnp.sin(_sum(f(theta, cs[i]))))
    return [lax.fori_loop(0, num_steps(theta), step, theta)]
  return g

_layer(_fori_loop)
_layer(functools.partial(
    _fori_loop, num_steps=lambda theta: 2 + 0 * theta[0].astype(int)),
       "while_loop")

@_layer
def cond(f, spread):
  def g(theta, c):
    def other(theta, c):
      return [jnp.broadcast_to(theta.sum().astype(x.dtype), x.shape)
              for x in jax.eval_shape(f, theta, c)]
    return lax.cond(theta[0] > 0., f, other, theta, c)
  return g

# The user's own rules around the solver.

def _custom_vjp(f, spread, late=False):
  # The residual is a vjp function, or what it takes to make one.
  vjp = lambda theta, c: jax.vjp(lambda theta: f(theta, c), theta)
  g = jax.custom_vjp(lambda theta, c: f(theta, c))
  def bwd(res, outs_bar):
    f_vjp = vjp(*res)[1] if late else res
    return *f_vjp(outs_bar), None
  fwd = lambda *args: (f(*args), args) if late else vjp(*args)
  g.defvjp(fwd, bwd)
  return g

_layer(_custom_vjp)
_layer(functools.partial(_custom_vjp, late=True),
       "custom_vjp_with_grad_in_rule")

@_layer
def custom_jvp(f, spread):
  # Its rule uses reverse mode, since not all that it is put around has another.
  g = jax.custom_jvp(lambda theta, c: f(theta, c))
  @g.defjvp
  def rule(primals, tangents):
    jac = jax.jacrev(f)(*primals)
    return f(*primals), [jnp.tensordot(j, tangents[0], 1) for j in jac]
  return g

def _with_mode(f, spread, mode):
  def g(theta, c):
    with mode():
      return f(theta, c)
  return g

# This turns caches off, too.
_layer(functools.partial(_with_mode, mode=jax.checking_leaks),
       "checking_leaks")
_layer(functools.partial(_with_mode, mode=jax.disable_jit), "disable_jit")


REVERSE = {"grad", "value_and_grad", "jacrev", "vjp_of_all_arguments"}
FORWARD = {"jvp", "linearize", "jacfwd"}
CUSTOM = {"custom_vjp", "custom_vjp_with_grad_in_rule", "custom_jvp"}
_SCANS = {"scan", "scan_capturing_its_index", "map", "fori_loop"}

# By name, from the outside to the inside.
STACKS = {"_of_".join(stack.split()): stack for stack in (
    "grad", "value_and_grad", "jit grad", "grad jit", "jit value_and_grad jit",
    "vjp_of_all_arguments", "vmap grad", "vmap_unbatched_capture grad",
    "vmap_unbatched_theta grad", "grad vmap", "grad vmap_unbatched_theta",
    "jit vmap grad", "vmap_unbatched_theta vmap_unbatched_capture grad",
    "grad scan", "jit grad scan_capturing_its_index", "scan grad",
    "jit grad scan remat", "grad cond", "cond grad",
    "jit grad fori_loop", "jit while_loop grad", "jit while_loop", "grad map",
    "map grad", "grad remat", "grad remat jit", "jit jacrev", "jit jacrev grad",
    "jit jacfwd grad", "jacfwd", "jvp jit", "jit jvp", "linearize jit",
    "vmap linearize", "jit jvp grad", "jit grad jvp", "jit jvp while_loop",
    "grad custom_vjp", "vmap grad custom_vjp", "grad custom_jvp",
    "jit grad custom_vjp_with_grad_in_rule", "shard_map grad",
    "jit grad shard_map", "checking_leaks jit vmap grad",
    "checking_leaks jit grad", "disable_jit vmap grad")}

def has_derivatives(stack: str, way: str) -> bool:
  """Whether the layers differentiate a solver with this kind of rule."""
  forward, reverse, order, max_order = way == "custom_jvp", True, 0, 2
  for name in reversed(stack.split()):
    if (name in REVERSE | CUSTOM and not reverse or name in CUSTOM and order
        or name in FORWARD and not forward):
      return False
    if name in _SCANS and way == "custom_jvp":
      # JAX 0.10 forgets the rules of custom_jvp functions in the second
      # reverse derivative of a scan, with or without closures.
      max_order = min(max_order, order + 1)
    forward &= name not in CUSTOM
    reverse &= name != "while_loop"
    order += name in REVERSE | FORWARD | CUSTOM
  # More derivatives would lose too many digits in single precision.
  return order <= max_order

def evaluate(stack: str, kind: str, root) -> list[jax.Array]:
  """Applies a stack to the solver `root` for a closure of that kind."""
  value, spread, close_over = KINDS[kind]
  f = lambda theta, c: [root(close_over(root, theta, c), jnp.ones_like(theta))]
  for name in reversed(stack.split()):
    f = LAYERS[name](f, spread)
  return f(jnp.array([.8, 1.1]), value())
