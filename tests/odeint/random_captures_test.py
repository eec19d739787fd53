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

"""Gradients of odeint for random closures over indices, masks and keys.

A captured array is an argument of the compiled solver, so that XLA does not
know the indices. The reference for each draw takes fixed steps in double
precision, and differentiates straight through them, one operation at a time, so
that XLA fuses nothing in it. ``RANDOM_CAPTURES`` is the number of draws and
``RANDOM_CAPTURES_SEED`` the first seed; a draw depends on its seed alone.
"""

from functools import partial
import os
import random
import re

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental import sparse
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

NUM_DRAWS = int(os.environ.get("RANDOM_CAPTURES", 20))
FIRST_SEED = int(os.environ.get("RANDOM_CAPTURES_SEED", 0))

N = 3  # The numbers in each leaf of the state and in each parameter.
TIMES = np.array([0., .2, .5])


# A term is drawn with `rng` and takes two vectors of N, of the state or of the
# parameters, to another one. What it captures are arrays of JAX, or tracers if
# the zero is one.

def _hold(rng, value):
  value = jnp.asarray(value)
  return (value + rng.zero).astype(value.dtype)

def _int(rng, low=0, high=N):
  return _hold(rng, rng.randrange(low, high))

def _ints(rng, count, high=N):
  return _hold(rng, [rng.randrange(high) for _ in range(count)])

def _take(rng):
  i = _int(rng)
  return lambda x, z: x * z[i]

def _take_alone(rng):
  i = _int(rng)
  return lambda x, z: x + z[i]

def _take_beside(rng):
  i = _int(rng)
  return lambda x, z: x - z - z[i]

def _take_negative(rng):
  i = _int(rng, -N, 0)
  return lambda x, z: x[i] + jnp.sin(z)

def _gather(rng):
  ix = _ints(rng, N)
  return lambda x, z: x[ix] * z

def _add_at(rng):
  i, j = _int(rng), _int(rng)
  return lambda x, z: x.at[i].add(z[j])

def _set_at(rng):
  i, j = _int(rng), _int(rng)
  return lambda x, z: x.at[i].set(jnp.cos(z[j]))

def _one_at(rng):
  i, j = _int(rng), _int(rng)
  return lambda x, z: jnp.zeros_like(x).at[i].add(x[j] * z[i])

def _scatter(rng):
  ix = _ints(rng, 2 * N)
  return lambda x, z: z.at[ix].add(jnp.concatenate([x, z]))

def _multiply_at(rng):
  ix = _hold(rng, rng.sample(range(N), 2))
  return lambda x, z: x.at[ix].multiply(z[ix], unique_indices=True)

def _slice(rng):
  i = _int(rng, 0, 2)
  return lambda x, z: x + lax.dynamic_slice(z, (i,), (2,)).sum()

def _update_slice(rng):
  i, j = _int(rng, 0, 2), _int(rng, 0, 2)
  return lambda x, z: lax.dynamic_update_slice(
      x, lax.dynamic_slice(z, (j,), (2,)), (i,))

def _mask(rng):
  mask = _hold(rng, [rng.random() < .5 for _ in range(N)])
  return lambda x, z: jnp.where(mask, x, z * x)

def _segment_sum(rng):
  ids = jnp.sort(_ints(rng, N))
  return lambda x, z: jax.ops.segment_sum(x * z, ids, num_segments=N)

def _sparse(rng):
  ix = jnp.stack([_ints(rng, 4), _ints(rng, 4)], 1)
  return lambda x, z: sparse.BCOO((jnp.append(z, z[0]), ix), shape=(N, N)) @ x

def _sparse_values(rng):
  data = _hold(rng, [rng.uniform(-1, 1) for _ in range(4)])
  ix = jnp.stack([_ints(rng, 4), _ints(rng, 4)], 1)
  return lambda x, z: sparse.BCOO((data, ix), shape=(N, N)) @ x + z

def _switch(rng):
  i, j = _int(rng), _int(rng)
  branches = [lambda x, z: x * z, lambda x, z: x + z[j], lambda x, z: z - x[j]]
  return lambda x, z: lax.switch(i, branches, x, z)

def _cond(rng):
  flag, i = _hold(rng, rng.random() < .5), _int(rng)
  return lambda x, z: lax.cond(flag, lambda x, z: x.at[i].add(z[i]),
                               lambda x, z: x - z, x, z)

def _power(rng):
  p = _ints(rng, N, 4)
  return lambda x, z: x + z ** p

def _integer_power(rng):
  p = rng.randrange(2, 4)
  i = _int(rng)
  return lambda x, z: x[i] ** p + lax.integer_pow(z, p)

def _roll(rng):
  shift = _int(rng)
  return lambda x, z: jnp.roll(x, shift) * z

def _matrix(rng):
  row = _int(rng, 0, 2)
  m = _hold(rng, [[rng.uniform(-1, 1) for _ in range(N)] for _ in range(2)])
  return lambda x, z: m[row] * x + m.at[row].add(z)[row]

def _choose(rng):
  ix = _ints(rng, N, 2)
  return lambda x, z: jnp.choose(ix, [x, z], mode="clip") + x

# XLA makes other programs of single elements than of several at once, so half of
# the terms are those.
TERMS = 3 * [_take, _take_alone, _take_beside, _take_negative, _one_at] + [
    _gather, _add_at, _set_at, _scatter, _multiply_at, _slice, _update_slice,
    _mask, _segment_sum, _sparse, _sparse_values, _switch, _cond, _power,
    _integer_power, _roll, _matrix, _choose]


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
  terms = [[(rng.choice(TERMS), rng.random(),
             rng.randrange(num_leaves + num_params),
             num_leaves + rng.randrange(num_params))
            for _ in range(rng.randint(2, 4))] for _ in range(num_leaves)]
  weights = vector()

  def loss(solve, y0, params, zero):
    def draw(make, seed):
      rng = random.Random(seed)
      rng.zero = zero
      return make(rng)
    leaves = [[(draw(make, seed), i, j) for make, seed, i, j in leaf]
              for leaf in terms]
    def func(y, t):
      xs = [*y, *params]
      return [-x + .3 * t + .3 * sum(term(xs[i], xs[j]) for term, i, j in leaf)
              for x, leaf in zip(y, leaves)]
    ys = solve(func, y0, jnp.asarray(TIMES))
    return sum(jnp.sum(jnp.asarray(weights) * (y[1] + jnp.sin(y[2])))
               for y in ys)

  names = "; ".join(", ".join(f"{make.__name__[1:]}({i}, {j})"
                              for make, _, i, j in leaf) for leaf in terms)
  return loss, y0, params, f"seed {seed}: {num_leaves} leaves, {names}"

def _odeint(func, y0, t):
  return odeint(func, y0, t, rtol=1e-6, atol=1e-6)

def _vmap(f):
  def of_copies(*args):
    args = jax.tree.map(lambda x: jnp.stack([x, x]), args)
    return jax.tree.map(lambda x: x[1], jax.vmap(f)(*args))
  return of_copies

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

  def check(self, loss, args, argnums, transforms, err_msg=""):
    def grads(solve, transform=lambda f: f):
      f = jax.grad(partial(loss, solve), argnums)
      return jax.tree.map(np.asarray, transform(f)(
          *jax.tree.map(jnp.asarray, args)))

    with jax.enable_x64(True):
      expected = grads(_fixed_steps)
    for transform in transforms:
      self.assertAllClose(
          grads(_odeint, transform), expected, check_dtypes=False, rtol=5e-5,
          atol=5e-5, err_msg=err_msg)

  @parameterized.named_parameters(
      (f"_{seed}", seed) for seed in range(FIRST_SEED, FIRST_SEED + NUM_DRAWS))
  def test_seed(self, seed):
    loss, y0, params, drawn = _draw(seed)

    # A batch is another program. It takes long, so some of the draws do.
    batched = [_vmap] if seed % 4 == 0 else []
    self.check(loss, (y0, params, 0), (0, 1), [lambda f: f, jax.jit, *batched],
               drawn)

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
    self.check(loss, args, (0, 1, 2), [lambda f: f])

  @parameterized.named_parameters(
      ("_grad", jax.grad),
      ("_grad_of_grad", lambda f: jax.grad(lambda *args: f(*args) + jnp.sum(
          jnp.sin(jax.grad(f)(*args)["x"])))),
  )
  def test_no_concatenation_fuses_updates(self, transform):
    # What XLA confuses are two updates in one of these. Whether it does so
    # depends on how it numbers them.
    def loss(v, i):
      a, b, y0 = v["a"], v["b"], {"x": v["x"], "y": v["y"]}
      func = lambda y, t: {"x": .1 * b[i] + y["y"] - a - a[i],
                           "y": y["x"].at[i].add(a[i]) - y["y"][i]}
      ys = odeint(func, y0, jnp.asarray(TIMES), rtol=1e-6, atol=1e-6)
      return ys["x"][-1].sum() + jnp.sin(ys["y"]).sum()
    v = {name: jnp.linspace(.1, .9, N) for name in "abxy"}
    text = jax.jit(transform(loss)).lower(v, 1).compile().as_text()
    self.assertIn("dynamic-update-slice(", text)
    for fused in re.findall(r"^%\S+ \(.*?^}", text, re.M | re.S):
      opcodes = dict(re.findall(r"%(\S+) = \S+ ([a-z-]+)\(", fused))
      for names in re.findall(r" concatenate\((.*?)\)", fused):
        operands = {opcodes[x] for x in re.findall(r"%([\w.-]+)", names)}
        self.assertNotIn("dynamic-update-slice", operands)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
