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

"""Differentiates a mechanical simulation with respect to all that it captures.

Three masses hang in a chain of springs, and thrusters push them about as a
table of controls says. The simulation is a stack of functions, each a closure
over what the ones before it know:

  energies -> Lagrangian -> Euler-Lagrange equations -> implicit time step

The root finder at the bottom has a derivative of its own, by the implicit
function theorem. Such a rule must be given all that the stack captures: masses,
stiffness, gravity, positions, controls, and the number of the step, an integer
that looks up the table. That is what `jax.closure_convert` is for.

The derivatives are compared with differentiating straight through Newton's
iterations and with central finite differences. Run the script by

  python -m jax_patch docs/examples/mechanics.py

On stock JAX, `python docs/examples/mechanics.py`, the number of the step leaks.
"""

import functools
import sys

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)  # For the finite differences.

STEPS, DT = 20, 0.05
START = np.array([0., -1., 0., -2., 0., -3.])  # (x, y) of each mass.


### The mechanics: closures, so no function is handed another's parameters

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
  # In discrete form, a variational integrator: the action between two times is
  # taken at their midpoint, and momentum balances where two intervals meet.
  def action(q0, q1):
    return DT * lagrangian((q0 + q1) / 2, (q1 - q0) / DT)

  def imbalance(step, q0, q1, q2):
    return (jax.grad(action, 1)(q0, q1) + jax.grad(action, 0)(q1, q2)
            + DT * force(step))

  return imbalance

def rollout(find_root, params, controls):
  lagrangian = make_lagrangian(*make_energies(params))
  imbalance = make_euler_lagrange(lagrangian, lambda step: controls[step])

  def advance(qs, step):  # `step` is a traced integer.
    q0, q1 = qs
    q2 = find_root(lambda q2: imbalance(step, q0, q1, q2), 2 * q1 - q0)
    return (q1, q2), q2

  return jax.lax.scan(advance, (START, START), jnp.arange(STEPS))[1]

def loss(find_root, params, controls):
  # Bring the lowest mass to a target and keep it there, at little cost.
  miss = rollout(find_root, params, controls)[-5:, -2:] - np.array([0.8, -2.6])
  return jnp.sum(miss ** 2) + 0.01 * jnp.sum(controls ** 2)


### The root finder, with a rule for gradients and a rule for every order

def newton(f, x, *aux):
  def improve(_, x):
    return x - jnp.linalg.solve(jax.jacobian(f)(x, *aux), f(x, *aux))

  return jax.lax.fori_loop(0, 8, improve, x)

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
  return x, -jnp.linalg.solve(jax.jacobian(f)(x, *aux), f_dot)

def implicitly(solver):
  def find_root(f, x0):
    f_converted, aux = jax.closure_convert(f, x0)
    return solver(f_converted, x0, *aux)

  return find_root


### The check

def central_differences(fun, x, eps=1e-5):
  steps = eps * np.eye(x.size).reshape(-1, *x.shape)
  return np.array([(fun(x + d) - fun(x - d)) / (2 * eps) for d in steps])

def agree(name, implicit, unrolled, differences):
  implicit, unrolled, differences = map(
      np.ravel, (implicit, unrolled, differences))
  top = np.argmax(np.abs(unrolled))  # Errors are relative to this entry.
  errors = [np.max(np.abs(implicit - other)) / np.abs(unrolled[top])
            for other in (unrolled, differences)]
  print(f"{name:<12}{implicit.size:>4}{implicit[top]:14.8f}{unrolled[top]:14.8f}"
        f"{differences[top]:14.8f}{errors[0]:11.0e}{errors[1]:9.0e}")
  return errors[0] < 1e-9 and errors[1] < 1e-6  # False for NaNs.

def main():
  params, unravel = ravel_pytree({
      "gravity": 9.8, "mass": np.array([1., 0.8, 0.5]),
      "stiffness": np.array([120., 90., 60.])})
  controls = np.sin(DT * np.arange(STEPS)[:, None] + np.arange(6))

  def loss_by(find_root):
    return lambda p, c: loss(find_root, unravel(p), c)

  by_vjp, by_jvp = implicitly(newton_vjp), implicitly(newton_jvp)
  value = jax.jit(loss_by(by_vjp))
  grad, unrolled_grad = (
      jax.jit(jax.grad(loss_by(r), (0, 1))) for r in (by_vjp, newton))
  hessian, unrolled_hessian = (
      jax.jit(jax.hessian(loss_by(r))) for r in (by_jvp, newton))
  grads = [grad(params, controls), unrolled_grad(params, controls), (
      central_differences(lambda p: value(p, controls), params),
      central_differences(lambda c: value(params, c), controls))]

  print(f"loss {value(params, controls):.8f} after {STEPS} steps; derivatives, "
        "and relative errors:\n\n"
        "in         size      implicit      unrolled   differences"
        "   unrolled   diff.")
  ok = [agree(name, *(unravel(g[0])[name] for g in grads))
        for name in unravel(params)]
  ok.append(agree("controls", *(g[1] for g in grads)))
  ok.append(agree(
      "Hessian", hessian(params, controls), unrolled_hessian(params, controls),
      central_differences(lambda p: grad(p, controls)[0], params)))
  if not all(ok):
    sys.exit("FAILED: the derivatives disagree.")
  print("\nThey agree.")

if __name__ == "__main__":
  main()
