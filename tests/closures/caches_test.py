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

"""Caches change no result, and keep no closure alive.

A converted closure returns what the closure returns, whatever ran before. The
reference is the closure itself, called.
"""

from concurrent import futures
import functools
import gc
import math
import sys
import weakref

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

@functools.partial(jax.jit, static_argnums=0)
def call_static(f, *args):
  return f(*args)

@jax.jit
def call_tree(f, *args):
  return f(*args)

# Each makes a function of a number that depends on a value which is not an
# array of JAX. The values are given beside it.
_VALUES = {
    "int64": (lambda n: lambda x: x * (n[0] // 2 ** 32), [
        np.array([n * 2 ** 32]) for n in (3, 4, 3)]),
    "float64": (lambda d: lambda x: x * (d - 2460000.), [
        np.float64(2460000.1), np.float64(2460000.2), 2460000.1]),
    "python_int": (lambda n: lambda x: x * (n % 7), [2 ** 70, 2 ** 71, 5]),
    "type": (lambda b: lambda x: x * [int, bool, float, np.ndarray].index(
        type(b)), [1, True, 1., np.array(1), 1]),
    "sign_of_zero": (lambda b: lambda x: x * math.copysign(1., b), [0., -0.]),
}

def _closures(k):
  # Fresh ones that capture the same kinds of values.
  array, integer = jnp.full(3, k), jnp.arange(3)
  def rate(x):
    return jax.nn.softplus(x) * array
  return [
      lambda x: rate(x).sum() + integer[0],
      lambda x: jax.jit(lambda x: x * np.float32(2.))(x).sum() * k,
      lambda x: lax.scan(lambda c, a: (c * a, None), x, array)[0].sum(),
      lambda x: jax.nn.silu(x * array).sum() + (3 if integer is None else 4)]

def _lowered():
  x = jnp.ones(3)
  texts = []
  for f in _closures(2.):
    tree = jax.custom_derivatives.closure_to_pytree(f, x)
    converted, _ = jax.closure_convert(f, x)
    texts += [call_tree.lower(tree, x).as_text(),
              call_static.lower(converted, x).as_text()]
  return texts


# What a user has who sets nothing.
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_numpy_rank_promotion="allow", jax_enable_checks=False)
class EarlierCallsTest(jtu.JaxTestCase):

  @parameterized.parameters(*_VALUES)
  def test_value(self, name):
    make, values = _VALUES[name]
    for value in values:
      expected = float(make(value)(2.))
      converted, _ = jax.closure_convert(make(value), 2.)
      tree = jax.custom_derivatives.closure_to_pytree(make(value), 2.)
      self.assertAllClose((call_static(converted, 2.), call_tree(tree, 2.)),
                          (expected, expected), check_dtypes=False, rtol=1e-5)

  def test_program_after_other_calls(self):
    before = _lowered()
    for k in range(10):
      for f in _closures(float(k % 3)):
        tree = jax.custom_derivatives.closure_to_pytree(f, jnp.ones(3))
        converted, _ = jax.closure_convert(f, jnp.ones(3))
        call_tree(tree, jnp.ones(3)), call_static(converted, jnp.ones(3))
    self.assertEqual(before, _lowered())

  def test_equal_across_threads(self):
    def work(i):
      x = jnp.ones(3)
      out = []
      for n in range(3):
        for f in _closures(float(n % 2)):
          converted, aux = jax.closure_convert(f, x)
          tree = jax.custom_derivatives.closure_to_pytree(f, x)
          out.append((tree, converted, float(f(x)), float(tree(x))))
      return out
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
      with futures.ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(work, range(8))
    finally:
      sys.setswitchinterval(interval)
    for other in others:
      for (f, _, x, y), (g, _, z, w) in zip(first, other, strict=True):
        self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))
        self.assertAllClose([x, y], [z, w])
        self.assertAllClose(x, y, rtol=1e-5)


_apply = jax.custom_vjp(lambda f, x, *aux: f(x, *aux), nondiff_argnums=(0,))
_apply.defvjp(lambda f, x, *aux: (f(x, *aux), (x, aux)),
              lambda f, res, g: jax.vjp(f, res[0], *res[1])[1](g))

def _solve(make, c):
  return odeint(make(c), jnp.ones(3), jnp.array([0., 1.])).sum()

# Each takes a function of a value that returns a fresh closure over it.
_USES = dict(
    forward=lambda make: _solve(make, jnp.array(.5)),
    gradient=lambda make: jax.grad(functools.partial(_solve, make))(
        jnp.array(.5)),
    pytree=lambda make: call_tree(jax.custom_derivatives.closure_to_pytree(
        make(jnp.array(2.)), jnp.ones(3), 1.), jnp.ones(3), 1.))

def _converted(call, transform, make):
  def loss(c):
    x = jnp.ones(3)
    f, aux = jax.closure_convert(lambda x: make(c)(x, 1.).sum(), x)
    return call(f, x, *aux)
  return jax.grad(transform(loss))(jnp.array(.5))

# Those of which JAX's own caches keep the closure, until they are cleared.
_USES_OF_CACHES = dict(
    custom_vjp=functools.partial(_converted, jax.jit(
        lambda f, x, *aux: _apply(f, x, *aux), static_argnums=0), lambda f: f),
    static=functools.partial(_converted, call_static, jax.jit))


class RetentionTest(jtu.JaxTestCase):

  @parameterized.parameters(*_USES, *_USES_OF_CACHES)
  def test_fresh_closures(self, name):
    refs = []
    def make(c):
      array = jnp.ones(3)
      f = lambda x, t: -jnp.sin(x) * array * c
      refs.extend(map(weakref.ref, (
          array, f, *[c] * isinstance(c, jax.core.Tracer))))
      return f

    use = {**_USES, **_USES_OF_CACHES}[name]
    use(make)
    gc.collect()
    jax.clear_caches()
    gc.collect()
    start = len(jax.live_arrays())
    del refs[:]
    for _ in range(100):
      use(make)
    gc.collect()
    if name in _USES:
      self.assertLessEqual(len(jax.live_arrays()), start + 8)
      self.assertEmpty([r for r in refs if isinstance(r(), jax.Array)])
    jax.clear_caches()
    gc.collect()
    self.assertLessEqual(len(jax.live_arrays()), start)
    self.assertEmpty([r for r in refs if r() is not None])


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
