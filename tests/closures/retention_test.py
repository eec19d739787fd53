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

"""No cache keeps a closure alive."""

import functools
import gc
import weakref

from absl.testing import absltest, parameterized

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

T = (0., 1.)

@functools.partial(jax.jit, static_argnums=0)
def call_static(f, *args):
  return f(*args)

@jax.jit
def call_tree(f, *args):
  return f(*args)

@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(f, x, *aux):
  return f(x, *aux)

_apply.defvjp(lambda f, x, *aux: (f(x, *aux), (x, aux)),
              lambda f, res, g: jax.vjp(f, res[0], *res[1])[1](g))

_call_apply = jax.jit(
    lambda f, x, *aux: _apply(f, x, *aux), static_argnums=0)

def _solve_gradient(make):
  return jax.grad(lambda c: odeint(
      make(c), jnp.ones(3), jnp.array(T)).sum())(jnp.array(.5))

def _apply_gradient(make):
  def loss(c):
    f, aux = jax.closure_convert(lambda x: make(c)(x, 1.).sum(), jnp.ones(3))
    return _call_apply(f, jnp.ones(3), *aux)
  return jax.grad(loss)(jnp.array(.5))

_USES = {
    "forward": lambda make: odeint(
        make(jnp.array(.5)), jnp.ones(3), jnp.array(T)),
    "gradient": _solve_gradient,
    "pytree": lambda make: call_tree(jax.custom_derivatives.closure_to_pytree(
        make(jnp.array(2.)), jnp.ones(3), 1.), jnp.ones(3), 1.),
}


class RetentionTest(jtu.JaxTestCase):

  def check(self, use, num, clear=False):
    # `use` is given a function that remembers what must go.
    refs = []
    def remember(*values):
      refs.extend(weakref.ref(v) for v in values)
    use(remember)
    gc.collect()
    jax.clear_caches()
    gc.collect()
    start = len(jax.live_arrays())
    del refs[:]
    for _ in range(num):
      use(remember)
    if clear:
      jax.clear_caches()
    gc.collect()
    self.assertLessEqual(len(jax.live_arrays()), start + (not clear) * 8)
    return refs

  def closure(self, remember, c):
    array = jnp.ones(3)
    f = lambda x, t: -jnp.sin(x) * array * c
    remember(f, array, *[c] * isinstance(c, jax.core.Tracer))
    return f

  @parameterized.named_parameters(*((n, n, k) for n, k in (
      ("forward", 700), ("gradient", 300), ("pytree", 300))))
  def test_fresh_closures(self, use, num):
    refs = self.check(lambda remember: _USES[use](
        functools.partial(self.closure, remember)), num)
    alive = [r() for r in refs if r() is not None]
    self.assertEmpty([x for x in alive if isinstance(x, jax.Array)])
    del alive
    jax.clear_caches()
    gc.collect()
    self.assertEmpty([r for r in refs if r() is not None])

  def test_custom_vjp(self):
    refs = self.check(lambda remember: _apply_gradient(
        functools.partial(self.closure, remember)), 100, clear=True)
    self.assertEmpty([r for r in refs if r() is not None])

  def test_static_converted(self):
    def use(remember):
      def f(c):
        closure = self.closure(remember, c)
        converted, aux = jax.closure_convert(closure, jnp.ones(3), 1.)
        return call_static(converted, jnp.ones(3), 1., *aux).sum()
      jax.grad(jax.jit(lambda c: f(c)))(1.)
    refs = self.check(use, 20, clear=True)
    self.assertEmpty([r for r in refs if r() is not None])

  def test_rule_that_refers_to_the_converted_function(self):
    refs = []
    def make():
      cell = []
      f = jax.custom_jvp(lambda x: x)
      f.defjvp(lambda p, t: (p[0], t[0] * (2. if cell else 3.)))
      converted, _ = jax.closure_convert(lambda x: f(x), 1.)
      cell.append(converted)
      again, _ = jax.closure_convert(lambda x: f(x), 1.)
      cell.append(again)
      self.assertEqual(call_static(jax.grad(again), 1.), 2.)
      refs.extend(map(weakref.ref, (f, converted, again)))
    for _ in range(5):
      make()
    jax.clear_caches()
    gc.collect()
    self.assertEmpty([r for r in refs if r() is not None])


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
