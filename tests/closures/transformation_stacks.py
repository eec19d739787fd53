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

"""Stacks of transformations, each applied to a function of theta and a capture.

A stack takes a `capture_kinds.Problem`, and returns values and derivatives. It
names `c`, the captured value, as an argument of whatever it transforms, so that
`c` is traced there.
"""

from functools import partial

import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec as P

NUM_DEVICES = 8

REVERSE = {}  # Stacks that need reverse mode alone, so either kind of rule.
FORWARD = {}  # Those that need a forward rule.

def _reverse(stack):
  REVERSE[stack.__name__] = stack
  return stack

def _forward(stack):
  FORWARD[stack.__name__] = stack
  return stack


# grad, jit and vmap.

@_reverse
def grad(p):
  return jax.grad(p.loss)(p.theta, p.c)

@_reverse
def value_and_grad(p):
  return jax.value_and_grad(p.loss)(p.theta, p.c)

@_reverse
def jit_of_grad(p):
  return jax.jit(jax.grad(p.loss))(p.theta, p.c)

@_reverse
def grad_of_jit(p):
  return jax.grad(jax.jit(p.loss))(p.theta, p.c)

@_reverse
def jit_of_value_and_grad_of_jit(p):
  return jax.jit(jax.value_and_grad(jax.jit(p.loss)))(p.theta, p.c)

@_reverse
def vjp_of_all_arguments(p):
  # The captured value gets a JVP tracer too, though its tangent type be float0.
  value, vjp = jax.vjp(p.loss, p.theta, p.c)
  theta_bar, _ = vjp(jnp.ones_like(value))
  return value, theta_bar

@_reverse
def vmap_of_grad(p):
  return jax.vmap(jax.grad(p.loss))(*p.spread(3))

@_reverse
def vmap_of_grad_unbatched_capture(p):
  thetas, _ = p.spread(3)
  return jax.vmap(jax.grad(p.loss), (0, None))(thetas, p.c)

@_reverse
def vmap_of_grad_unbatched_theta(p):
  _, cs = p.spread(3)
  return jax.vmap(jax.grad(p.loss), (None, 0))(p.theta, cs)

@_reverse
def grad_of_vmap(p):
  thetas, cs = p.spread(3)
  return jax.grad(lambda thetas, cs: jax.vmap(p.loss)(thetas, cs).sum())(
      thetas, cs)

@_reverse
def grad_of_vmap_unbatched_theta(p):
  _, cs = p.spread(3)
  return jax.grad(lambda theta, cs: jax.vmap(p.loss, (None, 0))(theta, cs).sum()
                  )(p.theta, cs)

@_reverse
def jit_of_vmap_of_grad(p):
  return jax.jit(jax.vmap(jax.grad(p.loss)))(*p.spread(3))

@_reverse
def vmap_of_vmap_of_grad(p):
  thetas, cs = p.spread(3)
  inner = jax.vmap(jax.value_and_grad(p.loss), (0, None))
  return jax.vmap(inner, (None, 0))(thetas, cs)



# Control flow.

@_reverse
def grad_of_scan(p):
  _, cs = p.spread(3)
  def rollout(theta, cs):
    step = lambda s, c: (s + .1 * p.loss(theta * (1. + .1 * s), c),) * 2
    return lax.scan(step, jnp.zeros(()), cs)[1].sum()
  return jax.grad(rollout)(p.theta, cs)

@_reverse
def jit_of_grad_of_scan_capturing_its_index(p):
  def rollout(theta, c):
    step = lambda s, i: (s + p.loss(theta, c, i), None)
    return lax.scan(step, jnp.zeros(()), jnp.arange(3))[0]
  return jax.jit(jax.value_and_grad(rollout))(p.theta, p.c)

@_reverse
def scan_of_grad(p):
  def rollout(theta, cs):
    step = lambda theta, c: (theta - .1 * jax.grad(p.loss)(theta, c), theta)
    return lax.scan(step, theta, cs)
  return rollout(*(p.theta, p.spread(3)[1]))

@_reverse
def jit_of_grad_of_scan_of_remat(p):
  _, cs = p.spread(3)
  def rollout(theta, cs):
    step = jax.checkpoint(lambda s, c: (s + p.loss(theta, c), None))
    return lax.scan(step, jnp.zeros(()), cs)[0]
  return jax.jit(jax.grad(rollout))(p.theta, cs)

def _cond(loss, theta, c):
  return lax.cond(theta[0] > 0., loss, lambda theta, c: theta.sum(), theta, c)

@_reverse
def grad_of_cond(p):
  return jax.grad(partial(_cond, p.loss))(p.theta, p.c)

@_reverse
def cond_of_grad(p):
  return lax.cond(p.theta[0] > 0., jax.grad(p.loss), lambda theta, c: theta,
                  p.theta, p.c)

@_reverse
def grad_of_switch(p):
  def choose(theta, c, i):
    branches = [lambda theta, c: theta.sum(), p.loss,
                lambda theta, c: 2. * theta.sum()]
    return lax.switch(i, branches, theta, c)
  return jax.jit(jax.grad(choose))(p.theta, p.c, 1)

@_reverse
def jit_of_grad_of_fori_loop(p):
  # With a fixed number of iterations, which makes it a scan.
  def rollout(theta, c):
    return lax.fori_loop(0, 3, lambda i, s: s + p.loss(theta, c, i),
                         jnp.zeros(()))
  return jax.jit(jax.grad(rollout))(p.theta, p.c)

@_reverse
def while_loop_of_grad(p):
  def descend(n, theta, c):
    def step(carry):
      i, theta = carry
      return i + 1, theta - .1 * jax.grad(p.loss)(theta, c)
    return lax.while_loop(lambda carry: carry[0] < n, step, (0, theta))[1]
  return jax.jit(descend)(3, p.theta, p.c)

@_reverse
def while_loop(p):
  # Cannot be differentiated in reverse mode.
  def rollout(n, theta, c):
    return lax.fori_loop(0, n, lambda i, s: s + p.loss(theta, c, i),
                         jnp.zeros(()))
  return jax.jit(rollout)(3, p.theta, p.c)

@_reverse
def grad_of_map(p):
  thetas, cs = p.spread(3)
  loss = lambda theta, cs: lax.map(lambda c: p.loss(theta, c), cs).sum()
  return jax.grad(loss)(p.theta, cs)

@_reverse
def map_of_grad(p):
  return lax.map(lambda args: jax.grad(p.loss)(*args), p.spread(3))


# remat, derivatives of higher order, and Jacobians.

@_reverse
def grad_of_remat(p):
  return jax.grad(jax.checkpoint(p.loss))(p.theta, p.c)

@_reverse
def grad_of_remat_of_jit(p):
  return jax.grad(jax.checkpoint(jax.jit(p.loss)))(p.theta, p.c)

@_reverse
def jit_of_jacrev(p):
  return jax.jit(jax.jacrev(p.solve))(p.theta, p.c)

@_reverse
def hessian_by_reverse_over_reverse(p):
  return jax.jit(jax.jacrev(jax.grad(p.loss)))(p.theta, p.c)

@_forward
def hessian(p):
  return jax.jit(jax.hessian(p.loss))(p.theta, p.c)

@_forward
def jacfwd(p):
  return jax.jacfwd(p.solve)(p.theta, p.c)

@_forward
def jvp(p):
  return jax.jvp(lambda theta: jax.jit(p.solve)(theta, p.c), (p.theta,),
                 (jnp.cos(p.theta),))

@_forward
def jit_of_jvp(p):
  @jax.jit
  def derivative(theta, c):
    return jax.jvp(lambda theta: p.solve(theta, c), (theta,), (theta,))
  return derivative(p.theta, p.c)

@_forward
def linearize(p):
  value, f_jvp = jax.linearize(lambda theta: jax.jit(p.solve)(theta, p.c),
                               p.theta)
  return value, f_jvp(jnp.cos(p.theta))

@_forward
def vmap_of_linearize(p):
  def derivative(theta, c):
    value, f_jvp = jax.linearize(lambda theta: p.solve(theta, c), theta)
    return value, f_jvp(theta)
  return jax.vmap(derivative)(*p.spread(3))

@_forward
def jvp_of_grad(p):
  @jax.jit
  def derivative(theta, c):
    return jax.jvp(lambda theta: jax.grad(p.loss)(theta, c), (theta,), (theta,))
  return derivative(p.theta, p.c)

@_forward
def grad_of_jvp(p):
  def derivative(theta, c):
    return jax.jvp(lambda theta: p.loss(theta, c), (theta,), (theta,))[1]
  return jax.jit(jax.grad(derivative))(p.theta, p.c)

@_forward
def jvp_of_while_loop(p):
  @jax.jit
  def derivative(n, theta, c):
    def rollout(theta):
      return lax.fori_loop(0, n, lambda i, s: s + p.loss(theta, c, i),
                           jnp.zeros(()))
    return jax.jvp(rollout, (theta,), (theta,))
  return derivative(3, p.theta, p.c)


# Inside of a custom derivative of the user's.

def _with_custom_vjp(loss):
  # Its residual is a vjp function, which holds what the solver's rule saved.
  @jax.custom_vjp
  def f(theta, c):
    return loss(theta, c)
  def f_fwd(theta, c):
    return jax.vjp(lambda theta: loss(theta, c), theta)
  def f_bwd(vjp, value_bar):
    return *vjp(value_bar), None
  f.defvjp(f_fwd, f_bwd)
  return f

def _with_grad_in_rule(loss):
  @jax.custom_vjp
  def f(theta, c):
    return loss(theta, c)
  def f_fwd(theta, c):
    return loss(theta, c), (theta, c)
  def f_bwd(res, value_bar):
    return value_bar * jax.grad(loss)(*res), None
  f.defvjp(f_fwd, f_bwd)
  return f

def _with_custom_jvp(loss):
  @jax.custom_jvp
  def f(theta, c):
    return loss(theta, c)
  @f.defjvp
  def f_jvp(primals, tangents):
    value, grad = jax.value_and_grad(loss)(*primals)
    return value, jnp.vdot(grad, tangents[0])
  return f

@_reverse
def grad_of_custom_vjp(p):
  return jax.grad(_with_custom_vjp(p.loss))(p.theta, p.c)

@_reverse
def vmap_of_grad_of_custom_vjp(p):
  return jax.vmap(jax.grad(_with_custom_vjp(p.loss)))(*p.spread(3))

@_reverse
def jit_of_grad_of_custom_vjp_with_grad_in_rule(p):
  return jax.jit(jax.grad(_with_grad_in_rule(p.loss)))(p.theta, p.c)

@_reverse
def grad_of_custom_jvp(p):
  return jax.grad(_with_custom_jvp(p.loss))(p.theta, p.c)

@_reverse
def jvp_of_custom_jvp(p):
  # Whose rule uses reverse mode.
  f = jax.jit(_with_custom_jvp(p.loss))
  return jax.jvp(lambda theta: f(theta, p.c), (p.theta,), (p.theta,))


# On several devices, the leading axes of theta and `c` being split over them.

def _sharded(f):
  mesh = Mesh(np.array(jax.devices()[:NUM_DEVICES]), ("i",))
  # Without jit, each operation would run on each device in turn.
  return jax.jit(jax.shard_map(jax.vmap(f), mesh=mesh, in_specs=P("i"),
                               out_specs=P("i")))

@_reverse
def shard_map_of_grad(p):
  return _sharded(jax.grad(p.loss))(*p.spread(NUM_DEVICES))

@_reverse
def grad_of_shard_map(p):
  f = _sharded(p.loss)
  return jax.jit(jax.grad(lambda thetas, cs: f(thetas, cs).sum()))(
      *p.spread(NUM_DEVICES))


# In another mode of JAX. Checking for leaks also turns caches off.

@_reverse
def checking_leaks_jit_of_vmap_of_grad(p):
  with jax.checking_leaks():
    return jit_of_vmap_of_grad(p)

@_reverse
def checking_leaks_jit_of_grad(p):
  with jax.checking_leaks():
    return jit_of_grad(p)

@_reverse
def disable_jit_vmap_of_grad(p):
  with jax.disable_jit():
    return jax.vmap(jax.grad(p.loss))(*p.spread(3))
