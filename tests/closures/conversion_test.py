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

"""Conversion beyond upstream's tests: effects, types, loops and branches."""

import dataclasses
import warnings

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import hijax
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree

jax.config.parse_flags_with_absl()


# A type of value that is no array: it has a hidden one.

@dataclasses.dataclass(frozen=True)
class _HiddenType(hijax.HiType):
  inner: object
  lo_ty = lambda self: [self.inner]
  lower_val = lambda self, hidden: [hidden.array]
  raise_val = lambda self, array: _Hidden(array)
  to_tangent_aval = lambda self: self

@dataclasses.dataclass
class _Hidden:
  array: object

hijax.register_hitype(_Hidden, lambda h: _HiddenType(jax.typeof(h.array)))

class _Get(getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive):

  def __init__(self, example):
    self.in_avals, self.params = (jax.typeof(example),), {}
    self.out_aval = jax.typeof(example).inner
    super().__init__()

  def expand(self, hidden):
    return 2. * hidden.array


class ConversionTest(jtu.JaxTestCase):

  @parameterized.parameters(False, True)
  def test_ref(self, traced):
    def f():
      ref = jax.new_ref(jnp.zeros(()))
      def fun(x):
        ref[...] += x
        return x
      converted, aux = jax.closure_convert(fun, 1.)
      self.assertLen(aux, traced)
      converted(2., *aux)
      jax.jit(lambda x: converted(x, *aux))(3.)
      return ref[...]

    self.assertAllClose((jax.jit(f) if traced else f)(), 5., check_dtypes=False)

  def test_effects(self):
    def f(a):
      def fun(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x, ordered=True)
        return a * x
      converted, aux = jax.closure_convert(fun, 1.)
      return converted(2., *aux) + converted(3., *aux)

    for g in (f, jax.jit(f), jax.grad(f), jax.jit(jax.grad(f))):
      seen = []
      g(1.)
      jax.effects_barrier()
      self.assertEqual(seen, [2., 3.])

  def test_array_of_another_precision_in_a_pullback(self):
    c = np.arange(3.)
    with jax.enable_x64(True):
      f, _ = jax.closure_convert(lambda y: (y * c).sum(), np.ones(3))
      out, pullback = jax.vjp(f, jnp.ones(3))
      one = jnp.ones_like(out)
    y_bar, = pullback(one)
    self.assertAllClose(np.asarray(y_bar), c)


class TypesTest(jtu.JaxTestCase):

  def test_literals_keep_their_types(self):
    product = lambda x, i: x * i
    fun = jax.jit(lambda x: jax.grad(product, (0, 1), allow_int=True)(2 * x, 3))
    f = jax.closure_convert(fun, 1.)[0]
    for g in jax.jit(f), fun, jax.vmap(f, axis_size=2, in_axes=None):
      bar, zero = g(1.)
      self.assertEqual((jnp.asarray(bar).weak_type, zero.dtype),
                       (True, jax.dtypes.float0))
    with jax.enable_x64(True):
      x = jnp.arange(2)
      f = jax.closure_convert(lambda x: 3 * x, x)[0]
    self.assertAllClose(f(x), 3 * np.arange(2), check_dtypes=False)

  def test_hijax_type(self):
    hidden = _Hidden(jnp.ones(3))
    get = _Get(hidden)
    f, aux = jax.closure_convert(get, hidden)
    self.assertAllClose(f(_Hidden(2. * jnp.ones(3)), *aux), 4. * jnp.ones(3))
    @jax.jit
    def captured(hidden):
      f, aux = jax.closure_convert(lambda x: x * get(hidden), 1.)
      self.assertLen(aux, 1)
      return f(3., *aux)
    self.assertAllClose(captured(hidden), 6. * jnp.ones(3))

  def test_other_types_warn_once_for_each_call_site(self):
    converted, _ = jax.closure_convert(lambda z: 2 * z, jnp.ones(3))
    with (config.enable_checks(False),
          warnings.catch_warnings(record=True) as caught):
      warnings.simplefilter("default")
      for _ in range(3):
        converted(jnp.ones(6))
      converted(jnp.ones(6))
    self.assertLen(caught, 2)
    self.assertEqual({w.filename for w in caught}, {__file__})

  @parameterized.named_parameters(
      ("bfloat16", lambda f, x, a: f(x.astype('bfloat16'),
                                     a.astype('bfloat16')), 3., 2.),
      ("argument", lambda f, x, a: f(jnp.broadcast_to(x, 4), a).sum(), 12., 8.),
      ("map", lambda f, x, a: lax.map(
          lambda a: f(x, a), jnp.stack([a, a])).sum(), 6., 4.))
  def test_derivatives_at_other_types(self, use, a_bar, x_bar):
    def loss(a, x):
      f, aux = jax.closure_convert(lambda x: a * x, x)
      return use(f, x, *aux).astype('float32')
    with config.enable_checks(False), jtu.ignore_warning(
        category=FutureWarning):
      out = jax.jit(jax.grad(loss, (0, 1)))(jnp.float32(2), jnp.float32(3))
    self.assertAllClose(out, (np.float32(a_bar), np.float32(x_bar)))

  def test_values_that_are_not_read(self):
    @jax.jit
    def f(a, b):
      converted, aux = jax.closure_convert(lambda x, state: a * x, 1., b)
      self.assertLen(aux, 1)
      # Warnings are errors here.
      for state in 0., "text", object(), jnp.ones(7, int):
        out = converted(3., state, *aux)
      return out
    with config.enable_checks(False):
      self.assertAllClose(f(2., jnp.ones(3)), 6., check_dtypes=False)


# Functions that call `f` in the body of another operation. `wrap` may be `jit`.

def _while(f, wrap):
  return lambda x: lax.while_loop(
      lambda s: s[0] + 0. * f(s[1])[0] < 2.,
      lambda s: (s[0] + 1., f(s[1])), (1. * x[0], x))[1]

def _cond(f, wrap):
  return lambda x: lax.cond(x[0] > .5, f, lambda x: x + 1., x)

def _scan(f, wrap):
  def scan(x):
    carry, ys = lax.scan(lambda c, x: (f(c), (x * f(c), c[0])), x,
                         jnp.arange(3., dtype=x.dtype), reverse=True)
    return carry + jnp.sum(ys[0], 0) + ys[1][0]
  return scan

_BODIES = {
    "scan": _scan, "while": _while, "cond": _cond,
    "nested": lambda f, wrap: wrap(lambda x: lax.scan(
        lambda x, _: (_cond(f, wrap)(x), None), x, length=2)[0])}


class PytreeTest(jtu.JaxTestCase):

  @parameterized.parameters(*[(kind, 3) for kind in _BODIES], ("nested", 100),
                            ("nested", 100, jax.jit), ("scan", 3, jax.jit))
  def test_captured_in_bodies(self, kind, n, wrap=lambda f: f):
    make = lambda a, wrap: _BODIES[kind](wrap(lambda x: jnp.sin(x * a)), wrap)
    loss = lambda f, x: jnp.sum(f(x) ** 2)
    grad = (lambda f, _: f) if kind == "while" else jax.value_and_grad
    run = jax.jit(grad(loss, (0, 1)))
    x = jnp.full(n, .3, 'float32')

    for k in 1., 2.:
      a = jnp.linspace(.5, k, n, dtype='float32')
      f = closure_to_pytree(make(a, wrap), x)
      with jtu.count_jit_and_pmap_lowerings() as count:
        got = run(f, x)
      num_lowerings = count()
      expected = grad(lambda a, x: loss(make(a, lambda f: f), x), (0, 1))(a, x)
      if kind != "while":
        # What a jitted function captured is its constant.
        bars = [c for c in jax.tree.leaves(got[1]) if c.shape == (n,)]
        got, expected = (got[0], bars), (
            expected[0], [*expected[1]][wrap is jax.jit:])
      self.assertAllClose(got, expected, rtol=1e-4)
    if wrap is not jax.jit:
      self.assertEqual(num_lowerings, 0)

  def test_bad_structure(self):
    f = closure_to_pytree(lambda x, y: x * y, 1., 2.)
    for args in (1.,), (1., 2., 3.), ((1.,), 2.):
      with self.assertRaisesRegex(TypeError, "structure"):
        f(*args)

  def test_leaves_of_other_types_warn(self):
    a = jnp.ones(3)
    f = jax.tree.map(lambda leaf: leaf[0], closure_to_pytree(lambda: 2. * a))
    with config.enable_checks(False), self.assertWarnsRegex(
        FutureWarning, r"hoisted value 0 is of type float.*\[\] instead of"):
      self.assertAllClose(f(), 2., check_dtypes=False)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
