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

"""Fits a neural network to a motion through `odeint`, by a closure.

The motion is an oscillation. Noisy observations of it come from three
experiments, each with a different damping. The network is the force. The
dynamics capture its weights, the table of dampings, and the number of the
experiment, an integer index into that table. A mask of booleans selects the
observations that exist.

The script compares the gradient with central differences, and with
differentiating straight through fixed Runge-Kutta steps. Then it fits, and
checks the motion from another start and at other times.

Run it by `python -m jax_patch docs/examples/neural_ode.py`. On stock JAX, where
it is `python docs/examples/neural_ode.py`, the gradient fails.
"""

import functools
import sys

import jax
from jax.experimental import ode
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import scipy.integrate

jax.config.update("jax_enable_x64", True)  # For the finite differences.

DAMPING = np.array([.1, .3, .6])
TIMES = np.linspace(0., 4., 25)
ITERATIONS = 800
STARTS = np.array([[1.5, 0.], [-1., 1.], [.5, -1.]])

### The truth, by SciPy

def observe(experiment, start, times):
  def dynamics(t, y):
    return y[1], -np.sin(2 * y[0]) - DAMPING[experiment] * y[1]
  return scipy.integrate.solve_ivp(
      dynamics, times[[0, -1]], start, t_eval=times, rtol=1e-9, atol=1e-9).y.T

### The model, a function of state and time that captures everything else

def init_weights(sizes=(1, 12, 12, 1)):
  keys = jax.random.split(jax.random.key(0), len(sizes))
  return [(jax.random.normal(key, (n, m)) / np.sqrt(m), jnp.zeros(n))
          for key, m, n in zip(keys, sizes, sizes[1:])]

def force(weights, x):
  for matrix, offset in weights[:-1]:
    x = jnp.tanh(matrix @ x + offset)
  matrix, offset = weights[-1]
  return matrix @ x + offset

def simulate(integrate, weights, experiment, start, times):
  damping = jnp.asarray(DAMPING)
  def dynamics(y, t):
    x, v = y
    return v, force(weights, x) - damping[experiment] * v
  return jnp.concatenate(integrate(dynamics, (start[:1], start[1:]), times), 1)

odeint = functools.partial(ode.odeint, rtol=1e-8, atol=1e-8)

def runge_kutta(dynamics, y, times, steps=8):
  def step(y, t, h):
    move = lambda s, k: jax.tree.map(lambda y, k: y + s * h * k, y, k)
    k1 = dynamics(y, t)
    k2 = dynamics(move(.5, k1), t + h / 2)
    k3 = dynamics(move(.5, k2), t + h / 2)
    k4 = dynamics(move(1., k3), t + h)
    return jax.tree.map(lambda y, *k: y + h / 6 * (k[0] + 2 * k[1] + 2 * k[2]
                                                   + k[3]), y, k1, k2, k3, k4)
  def between(y, interval):
    t, h = interval[0], (interval[1] - interval[0]) / steps
    y = jax.lax.fori_loop(0, steps, lambda i, y: step(y, t + i * h, h), y)
    return y, y
  intervals = jnp.stack([times[:-1], times[1:]], 1)
  _, ys = jax.lax.scan(between, y, intervals)
  return jax.tree.map(lambda y, ys: jnp.concatenate([y[None], ys]), y, ys)

def loss(integrate, weights, data, seen):
  # The experiments are a batch, so their numbers are traced.
  def miss(experiment, start, data, seen):
    ys = simulate(integrate, weights, experiment, start, jnp.asarray(TIMES))
    return jnp.sum(jnp.where(seen[:, None], (ys - data) ** 2, 0.)) / seen.sum()
  return jax.vmap(miss)(jnp.arange(3), STARTS, data, seen).mean()

### Fitting, by Adam

@jax.jit
def update(state, gradient, i):
  def one(w, m, s, g):
    m, s = .9 * m + .1 * g, .99 * s + .01 * g ** 2
    step = m / (1 - .9 ** i) / (jnp.sqrt(s / (1 - .99 ** i)) + 1e-8)
    return w - .03 * (1 - i / ITERATIONS) * step, m, s
  return one(*state, gradient)

def main():
  data = np.array([observe(i, STARTS[i], TIMES) for i in range(3)])
  rng = np.random.default_rng(0)
  data += .005 * rng.standard_normal(data.shape)
  seen = rng.random(data.shape[:2]) < .8

  w, unravel = ravel_pytree(init_weights())
  by_odeint = lambda w: loss(odeint, unravel(w), data, seen)
  by_steps = lambda w: loss(runge_kutta, unravel(w), data, seen)
  value_and_grad = jax.jit(jax.value_and_grad(by_odeint))
  value, gradient = value_and_grad(w)

  straight_through = jax.jit(jax.grad(by_steps))(w)
  direction = np.cos(np.arange(w.size))
  value_at = jax.jit(by_odeint)
  central = (value_at(w + 1e-5 * direction)
             - value_at(w - 1e-5 * direction)) / 2e-5
  scale = np.linalg.norm(gradient)
  errors = [np.linalg.norm(gradient - straight_through) / scale,
            abs(gradient @ direction - central) / scale]
  print(f"Gradient in {w.size} weights: differs by {errors[0]:.0e} from "
        f"differentiating fixed steps, by {errors[1]:.0e} from differences.")

  state = w, jnp.zeros_like(w), jnp.zeros_like(w)
  for i in range(1, ITERATIONS + 1):
    value, gradient = value_and_grad(state[0])
    state = update(state, gradient, i)
    if i in (1, 10, 100, ITERATIONS):
      print(f"iteration {i:3}, root mean squared miss {value ** .5:.4f}")

  start, times = np.array([1., .3]), np.linspace(0., 4., 50)
  fitted = simulate(odeint, unravel(state[0]), 1, start, jnp.asarray(times))
  unseen = np.max(np.abs(fitted - observe(1, start, times)))
  print(f"From another start: off by {unseen:.3f} at most.")
  if not (errors[0] < 1e-5 and errors[1] < 1e-5 and value ** .5 < .02
          and unseen < .1):
    sys.exit("FAILED: the gradient or the fit is off.")

if __name__ == "__main__":
  main()
