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

"""Differentiates a mechanical simulation with respect to captured values.

Three masses hang in a chain of springs, and thrusters push them by a table of
controls. The simulation is a stack of closures:

  energies -> Lagrangian -> Euler-Lagrange equations -> implicit time step

The root finder at the bottom has rules by the implicit function theorem. The
rules need all values that the stack captures, including the number of the step,
an integer index into the table of controls. `jax.closure_convert` hoists them.
The script compares the results with differentiating straight through Newton's
iterations, and with central differences.

Run it by `python -m jax_patch docs/examples/mechanics.py`. On stock JAX, where
it is `python docs/examples/mechanics.py`, the number of the step leaks.
"""

import functools
import sys

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np

from solver_templates import newton_vector as newton

jax.config.update("jax_enable_x64", True)  # For the finite differences.

STEPS, DT = 20, 0.05
START = np.array([0., -1., 0., -2., 0., -3.])  # (x, y) of each mass.

### The mechanics, as closures: no function takes the parameters of another

def make_energies(params):
  def kinetic(v):
    return 0.5 * params["mass"] @ jnp.sum(v.reshape(-1, 2) ** 2, axis=1)
  def potential(q):
    q = q.reshape(-1, 2)
    springs = jnp.diff(q, axis=0, prepend=jnp.zeros((1, 2)))
    stretch = jnp.linalg.norm(springs, axis=1) - 1.
    return (0.5 * params["stiffness"] @ stretch ** 2
            + params["gravity"] * params["mass"] @ q[:, 1])
  return kinetic, potential

def make_lagrangian(kinetic, potential):
  return lambda q, v: kinetic(v) - potential(q)

def make_euler_lagrange(lagrangian, force):
  # The discrete form takes the action of an interval at its midpoint. Momentum
  # balances where two intervals meet.
  def action(q0, q1):
    return DT * lagrangian((q0 + q1) / 2, (q1 - q0) / DT)
  def imbalance(step, q0, q1, q2):
    return (jax.grad(action, 1)(q0, q1) + jax.grad(action, 0)(q1, q2)
            + DT * force(step))
  return imbalance

def rollout(find_root, params, controls):
  lagrangian = make_lagrangian(*make_energies(params))
  imbalance = make_euler_lagrange(lagrangian, lambda step: controls[step])
  def advance(qs, step):  # The scan's counter, a traced integer.
    q2 = find_root(lambda q2: imbalance(step, *qs, q2), 2 * qs[1] - qs[0])
    return (qs[1], q2), q2
  return jax.lax.scan(advance, (START, START), jnp.arange(STEPS))[1]

def loss(find_root, params, controls):
  # The lowest mass should reach a target and stay there, with little control.
  miss = rollout(find_root, params, controls)[-5:, -2:] - np.array([0.8, -2.6])
  return jnp.sum(miss ** 2) + 0.01 * jnp.sum(controls ** 2)

### The root finder, with a rule for gradients and a rule for every order

newton_vjp = jax.custom_vjp(newton, nondiff_argnums=(0,))
newton_jvp = jax.custom_jvp(newton, nondiff_argnums=(0,))

def newton_fwd(f, x0, *aux):
  x = newton_vjp(f, x0, *aux)
  return x, (x, aux)

def newton_bwd(f, residuals, x_bar):  # dx = -(df/dx)^{-1} (df/daux) daux
  x, aux = residuals
  adjoint = jnp.linalg.solve(jax.jacobian(f)(x, *aux).T, -x_bar)
  _, vjp_aux = jax.vjp(functools.partial(f, x), *aux)
  return jnp.zeros_like(x), *vjp_aux(adjoint)

newton_vjp.defvjp(newton_fwd, newton_bwd)

@newton_jvp.defjvp
def newton_tangent(f, primals, tangents):
  x, aux, aux_dot = newton_jvp(f, *primals), primals[1:], tangents[1:]
  _, f_dot = jax.jvp(functools.partial(f, x), aux, aux_dot)
  return x, jnp.linalg.solve(jax.jacobian(f)(x, *aux), -f_dot)

def implicitly(solver):
  def find_root(f, x0):
    f_converted, aux = jax.closure_convert(f, x0)
    return solver(f_converted, x0, *aux)
  return find_root

### The check

def central_differences(fun, x, eps=1e-5):
  steps = eps * np.eye(x.size).reshape(-1, *x.shape)
  return np.array([(fun(x + d) - fun(x - d)) / (2 * eps) for d in steps])

def agree(name, implicit, unrolled, central):
  ways = [np.ravel(way) for way in (implicit, unrolled, central)]
  top = np.argmax(np.abs(ways[1]))  # The entry that is printed, and the scale.
  scale = np.abs(ways[1][top])
  errors = [np.max(np.abs(ways[0] - w)) / scale for w in ways[1:]]
  print(f"{name:<10}{ways[0].size:>4}", *(f"{w[top]:13.8f}" for w in ways),
        *(f"{e:9.0e}" for e in errors))
  return errors[0] < 1e-9 and errors[1] < 1e-6  # False for NaNs.

def main():
  p, unravel = ravel_pytree({
      "gravity": 9.8, "mass": np.array([1., 0.8, 0.5]),
      "stiffness": np.array([120., 90., 60.])})
  c = jnp.sin(DT * np.arange(STEPS)[:, None] + np.arange(6))  # The controls.

  def loss_by(find_root):
    return lambda p, c: loss(find_root, unravel(p), c)
  value = jax.jit(loss_by(newton))
  grad = jax.jit(jax.grad(loss_by(implicitly(newton_vjp)), (0, 1)))
  grads = [grad(p, c), jax.jit(jax.grad(loss_by(newton), (0, 1)))(p, c),
           (central_differences(lambda p: value(p, c), p),
            central_differences(lambda c: value(p, c), c))]
  hessians = [  # The second one is forward twice, which compiles faster.
      jax.jit(jax.hessian(loss_by(implicitly(newton_jvp))))(p, c),
      jax.jit(jax.jacfwd(jax.jacfwd(loss_by(newton))))(p, c),
      central_differences(lambda p: grad(p, c)[0], p)]

  print(f"Loss {value(p, c):.8f}. Its derivatives, by their largest entry:\n\n"
        "          size      implicit      unrolled       central  differences")
  ok = [agree(k, *(unravel(g)[k] for g, _ in grads)) for k in unravel(p)]
  ok += [agree("controls", *(g for _, g in grads)), agree("Hessian", *hessians)]
  if not all(ok):
    sys.exit("FAILED: the derivatives disagree.")

if __name__ == "__main__":
  main()
