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

T = 0., 1.

@functools.partial(jax.jit, static_argnums=0)
def _call_static(f, *args):
  return f(*args)

@jax.jit
def _call_tree(f, *args):
  return f(*args)

_apply = jax.custom_vjp(lambda f, x, *aux: f(x, *aux), nondiff_argnums=(0,))
_apply.defvjp(lambda f, x, *aux: (f(x, *aux), (x, aux)),
              lambda f, res, g: jax.vjp(f, res[0], *res[1])[1](g))

# Each takes a function of a value that returns a fresh closure over it.
_USES = dict(
    forward=lambda make: odeint(make(jnp.array(.5)), jnp.ones(3), jnp.array(T)),
    gradient=lambda make: jax.grad(lambda c: odeint(
        make(c), jnp.ones(3), jnp.array(T)).sum())(jnp.array(.5)),
    pytree=lambda make: _call_tree(jax.custom_derivatives.closure_to_pytree(
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
    static=functools.partial(_converted, _call_static, jax.jit))


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
