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

"""Gradients of odeint for random closures over indices, masks and numbers.

A captured array is an argument of the compiled solver, so that XLA does not
know the indices. The reference for each draw takes fixed steps in double
precision, and differentiates straight through them, one operation at a time, so
that XLA fuses nothing in it. ``RANDOM_CAPTURES`` is the number of draws and
``RANDOM_CAPTURES_SEED`` the first seed; a draw depends on its seed alone. There
are 20 with ``JAX_PATCH_ALL_TESTS=1``, as CI sets it, and 5 without.
"""

from functools import partial
import os
import random
import types

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental import sparse
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))
NUM_DRAWS = int(os.environ.get("RANDOM_CAPTURES", 20 if _ALL_TESTS else 5))
FIRST_SEED = int(os.environ.get("RANDOM_CAPTURES_SEED", 0))


N = 3  # The numbers in each leaf of the state and in each parameter.
TIMES = np.array([0., .2, .5])


def _captures(rng, zero):
  """Draws what a term may capture: tracers if the zero is one."""
  hold = lambda x: (jnp.asarray(x) + zero).astype(jnp.asarray(x).dtype)
  ints = lambda *shape, high=N: hold(np.reshape(
      [rng.randrange(high) for _ in range(np.prod(shape, dtype=int))], shape))
  return types.SimpleNamespace(
      i=ints(), j=ints(), low=ints(high=2), ix=ints(N), pairs=ints(4, 2),
      flag=hold(rng.random() < .5),
      mask=hold([rng.random() < .5 for _ in range(N)]),
      v=hold([rng.uniform(-1, 1) for _ in range(4)]))

# A term takes two vectors of N, of the state or of the parameters, and what it
# captures, to another vector.
_SINGLE = dict(
    take=lambda x, z, c: x * z[c.i],
    take_alone=lambda x, z, c: x + z[c.i],
    take_beside=lambda x, z, c: x - z - z[c.i],
    take_negative=lambda x, z, c: x[c.i - N] + jnp.sin(z),
    one_at=lambda x, z, c: jnp.zeros_like(x).at[c.i].add(x[c.j] * z[c.i]))
_OTHERS = dict(
    gather=lambda x, z, c: x[c.ix] * z,
    add_at=lambda x, z, c: x.at[c.i].add(z[c.j]),
    set_at=lambda x, z, c: x.at[c.i].set(jnp.cos(z[c.j])),
    scatter=lambda x, z, c: z.at[jnp.tile(c.ix, 2)].add(
        jnp.concatenate([x, z])),
    slice=lambda x, z, c: x + lax.dynamic_slice(z, (c.low,), (2,)).sum(),
    update_slice=lambda x, z, c: lax.dynamic_update_slice(
        x, lax.dynamic_slice(z, (c.low,), (2,)), (c.i % 2,)),
    mask=lambda x, z, c: jnp.where(c.mask, x, z * x),
    segment_sum=lambda x, z, c: jax.ops.segment_sum(
        x * z, jnp.sort(c.ix), num_segments=N),
    sparse=lambda x, z, c: sparse.BCOO(
        (jnp.append(z, z[0]), c.pairs), shape=(N, N)) @ x,
    sparse_values=lambda x, z, c: sparse.BCOO(
        (c.v, c.pairs), shape=(N, N)) @ x + z,
    switch=lambda x, z, c: lax.switch(c.i, [
        lambda x, z: x * z, lambda x, z: x + z[c.j], lambda x, z: z - x[c.j]],
                                      x, z),
    cond=lambda x, z, c: lax.cond(
        c.flag, lambda x, z: x.at[c.i].add(z[c.i]), lambda x, z: x - z, x, z),
    power=lambda x, z, c: x + z ** c.ix,
    roll=lambda x, z, c: jnp.roll(x, c.i) * z,
    matrix=lambda x, z, c: jnp.outer(c.v[:2], c.v[1:])[c.low] * x + z)
TERMS = _SINGLE | _OTHERS


def _draw(seed):
  """Returns a loss, of a solver, a state, parameters and a zero.

  Returns values of the state and the parameters, too. Each call of the loss
  makes what is captured anew, in the precision that is set.
  """
  rng = random.Random(seed)
  num_leaves, num_params = rng.choice([1, 1, 2]), rng.choice([2, 3, 4])
  vector = lambda: np.array([rng.uniform(-1, 1) for _ in range(N)])
  y0 = [vector() for _ in range(num_leaves)]
  params = [vector() for _ in range(num_params)]
  # XLA makes other programs of single elements than of several at once, so half
  # of the terms are those.
  terms = [[(rng.choice([*3 * [*_SINGLE], *_OTHERS]), rng.random(),
             rng.randrange(num_leaves + num_params),
             num_leaves + rng.randrange(num_params))
            for _ in range(rng.randint(2, 4))] for _ in range(num_leaves)]
  weights = vector()

  def loss(solve, y0, params, zero):
    leaves = [[(TERMS[name], _captures(random.Random(seed), zero), i, j)
               for name, seed, i, j in leaf] for leaf in terms]
    def func(y, t):
      xs = [*y, *params]
      return [-x + .3 * t + .3 * sum(
          term(xs[i], xs[j], c) for term, c, i, j in leaf)
              for x, leaf in zip(y, leaves)]
    ys = solve(func, y0, jnp.asarray(TIMES))
    return sum(jnp.sum(jnp.asarray(weights) * (y[1] + jnp.sin(y[2])))
               for y in ys)

  return loss, y0, params, f"seed {seed}: {terms}"

def _odeint(func, y0, t):
  return odeint(func, y0, t, rtol=1e-6, atol=1e-6)

def _fixed_steps(func, y0, t, num_steps=4):
  # The classical method of fourth order.
  move = lambda y, h, k: [x + h * d for x, d in zip(y, k)]
  ys = [y0]
  for t0, t1 in zip(TIMES, TIMES[1:]):
    y, h = ys[-1], (t1 - t0) / num_steps
    for s in t0 + h * np.arange(num_steps):
      k1 = func(y, s)
      k2 = func(move(y, h / 2, k1), s + h / 2)
      k3 = func(move(y, h / 2, k2), s + h / 2)
      k4 = func(move(y, h, k3), s + h)
      y = [x + h / 6 * (a + 2 * b + 2 * c + d)
           for x, a, b, c, d in zip(y, k1, k2, k3, k4)]
    ys.append(y)
  return [jnp.stack(leaf) for leaf in zip(*ys)]


@jtu.with_config(jax_numpy_dtype_promotion="standard")
class OdeintRandomCapturesTest(jtu.JaxTestCase):

  def check(self, loss, args, argnums, err_msg=""):
    def grads(solve, transform=lambda f: f):
      f = jax.grad(partial(loss, solve), argnums)
      return jax.tree.map(np.asarray, transform(f)(
          *jax.tree.map(jnp.asarray, args)))

    with jax.enable_x64(True):
      expected = grads(_fixed_steps)
    for transform in lambda f: f, jax.jit:
      self.assertAllClose(
          grads(_odeint, transform), expected, check_dtypes=False, rtol=5e-5,
          atol=5e-5, err_msg=err_msg)

  @parameterized.named_parameters(
      (f"_{seed}", seed) for seed in range(FIRST_SEED, FIRST_SEED + NUM_DRAWS))
  def test_seed(self, seed):
    loss, y0, params, drawn = _draw(seed)
    self.check(loss, (y0, params, 0), (0, 1), drawn)

  def test_matrix_and_index(self):
    # XLA confused the slopes of a_bar and b_bar.
    def loss(solve, a, b, d):
      i, ix = jnp.array(1), jnp.array([[0, 1], [1, 2], [2, 0], [2, 2]])
      m = sparse.BCOO((d, ix), shape=(N, N))
      func = lambda y, t: [-(.1 * b[i] + y[0] - a - a[i] + .1 * (m @ y[0]))]
      y0 = [jnp.array([.5, .6, .7])]
      return solve(func, y0, jnp.asarray(TIMES))[0][-1].sum()
    args = (np.array([1., 2., .5]), np.array([.3, -.1, .2]),
            np.array([.5, -.3, .8, .2]))
    self.check(loss, args, (0, 1, 2))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
