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

"""Which converted closures compare equal, and which must not."""

import functools
import itertools

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree


jax.config.parse_flags_with_absl()


def convert(make, *values, example=None):
  """Converts `make(*values)`, every one of the values being a tracer."""
  out = []
  args, kwargs = example or ((np.ones(3, 'float32'),), {})
  def trace(*values):
    out.append(jax.closure_convert(make(*values), *args, **kwargs)[0])
    return 0
  jax.eval_shape(trace, *values)
  return out[0]


class SoundnessTest(jtu.JaxTestCase):

  def test_what_is_hoisted(self):
    # Which captured value goes where, and which of them is not hoisted.
    c, d = np.ones(3, 'float32'), jnp.ones(3, 'float32')
    programs = [
        lambda a, b: lambda x: x * a + a, lambda a, b: lambda x: x * a + b,
        lambda a, b: lambda x: x * a + c, lambda a, b: lambda x: x * c + a,
        lambda a, b: lambda x: x * a + d, lambda a, b: lambda x: x * d + a,
        lambda a, b: lambda x: x * c + d, lambda a, b: lambda x: x * d + d,
        lambda a, b: lambda x: (x * a + b) * a,
        lambda a, b: lambda x: (x * a + b) * b,
        lambda a, b: lambda x: (x * a + b) * c]
    for f, g in itertools.combinations([convert(p, c, c) for p in programs], 2):
      self.assertNotEqual(f, g)
    self.assertEqual(convert(lambda a, b: lambda x: x * a, c, d),
                     convert(lambda a, b: lambda x: x * b, c, d))

  def test_big_constants(self):
    # Too big to compare by value, and held by arrays that come and go.
    x = np.ones(500, 'float32')
    arrays = [np.full(500, k, 'float32') for k in range(9)]
    for make in (
        lambda a, b: lambda x: x * a * b,
        lambda a, b: lambda x: jax.jit(lambda x: x * a * b)(x),
        lambda a, b: lambda x: lax.fori_loop(0, 2, lambda _, x: x * a * b, x)):
      for as_array in (np.asarray, jnp.asarray):
        converted = [convert(lambda a, b=as_array(b): make(a, b), x,
                             example=((x,), {})) for b in arrays]
        for f, g in itertools.combinations(converted, 2):
          self.assertNotEqual(f, g)

  def test_pytrees_of_callbacks_differ(self):
    # The callbacks may have state.
    a = jnp.ones(3)
    f, g = (closure_to_pytree(lambda x: a * jax.pure_callback(
        lambda x: x, x, x), a) for _ in range(2))
    self.assertNotEqual(jax.tree.structure(f), jax.tree.structure(g))


class CacheTest(jtu.JaxTestCase):

  @parameterized.parameters("static", "nondiff_vjp", "nondiff_jvp")
  def test_fresh_closure_is_traced_once(self, kind):
    traces = []
    def solve(f, x, *aux):
      traces.append(f)
      return jnp.sum(jnp.sin(f(x, *aux)))

    if kind == "static":
      solver = jax.jit(solve, static_argnums=0)
    else:
      custom = jax.custom_vjp if kind == "nondiff_vjp" else jax.custom_jvp
      f = custom(solve, nondiff_argnums=(0,))
      if kind == "nondiff_vjp":
        f.defvjp(lambda f, x, *aux: (solve(f, x, *aux), (x, aux)),
                 lambda f, res, g: jax.vjp(
                     functools.partial(solve, f), res[0], *res[1])[1](g))
      else:
        f.defjvp(lambda f, primals, tangents: jax.jvp(
            functools.partial(solve, f), primals, tangents))
      solver = jax.jit(f, static_argnums=0)

    def loss(a, x):
      converted, aux = jax.closure_convert(lambda x: jax.nn.silu(a * x), x)
      return solver(converted, x, *aux)

    x = np.ones(3, 'float32')
    def run(k):
      a = jnp.float32(k)
      value, grad = jax.value_and_grad(loss)(a, x)
      expected = lambda a: jnp.sum(jnp.sin(jax.nn.silu(a * x)))
      self.assertAllClose(value, expected(a), rtol=1e-5)
      self.assertAllClose(grad, jax.grad(expected)(a), rtol=1e-4)

    for k in range(2):  # JAX may trace something anew for the second call.
      run(k)
    num_traces = len(traces)
    with jtu.count_jit_and_pmap_lowerings() as count:
      with jtu.count_jit_compilation_cache_miss() as misses:
        jax.value_and_grad(loss)(jnp.float32(7.), x)
    self.assertLen(traces, num_traces)
    self.assertEqual((count(), misses()), (0, 0))


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
