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

"""A pytree of `closure_to_pytree` is an argument like any other."""

import copy
import functools

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree

jax.config.parse_flags_with_absl()


class PytreeTest(jtu.JaxTestCase):

  def closure(self, k=1):
    a = jnp.arange(3, dtype='float32') + k
    n = jnp.int32(k)
    table = np.ones(3, 'float32')
    return closure_to_pytree(
        lambda x: jnp.sin(a * x) * n.astype('float32') + table,
        np.ones(3, 'float32'))

  def expected(self, k, x):
    a = jnp.arange(3, dtype='float32') + k
    return jnp.sin(a * x) * k + 1.

  @parameterized.parameters(
      "jit", "carry", "while", "custom_jvp")
  def test_is_an_argument_like_any_other(self, kind):
    x = jnp.full(3, .5, 'float32')
    call = lambda f, x: f(x)
    def carry(f, x):
      return lax.scan(lambda s, _: ((s[0], s[0](s[1])), None), (f, x),
                      length=1)[0][1]
    def loop(f, x):
      return lax.while_loop(lambda s: s[0] < 1,
                            lambda s: (s[0] + 1, s[1], s[1](s[2])),
                            (0, f, x))[2]
    jvp = jax.custom_jvp(call)
    jvp.defjvp(lambda primals, tangents: jax.jvp(call, primals, tangents))
    wrapped = dict(jit=call, carry=carry, custom_jvp=jvp,
                   **{'while': loop})[kind]
    solve = jax.jit(wrapped)
    for k in (1, 2):
      self.assertAllClose(solve(self.closure(k), x), self.expected(k, x))
    if kind != "while":
      def loss(wrapped, f, x):
        return jnp.sum(wrapped(f, x) ** 2)
      grad = [jax.jit(jax.grad(functools.partial(loss, w), (0, 1),
                               allow_int=True))(self.closure(2), x)
              for w in (wrapped, call)]
      for got, expected in zip(*map(jax.tree.leaves, grad)):
        if expected.dtype != jax.dtypes.float0:
          self.assertAllClose(got, expected, rtol=1e-5)

    closures = [self.closure(k) for k in (3, 4)]
    with jtu.count_jit_and_pmap_lowerings() as count:
      for f in closures:
        solve(f, x)
    self.assertEqual(count(), 0)

  def test_leaves_are_all_that_is_captured(self):
    a, b = jnp.ones(3, 'float32'), np.full(3, 2, 'float32')
    big = np.ones(300, 'float32')
    for fun in (lambda x: x * a * b * jnp.sum(big),
                lambda x: lax.fori_loop(
                    0, 2, lambda _, x: x * a * b * jnp.sum(big), x)):
      f = closure_to_pytree(fun, a)
      shapes = sorted(x.shape for x in jax.tree.leaves(f))
      self.assertEqual(shapes, [(3,), (3,), (300,)])

  @parameterized.product(
      kind=["scan", "fori", "while", "cond", "switch", "nested", "remat",
            "vmap", "vmap_of_while", "vmap_of_cond"], n=[3, 100],
      jitted=[False, True])
  def test_captured_in_bodies(self, kind, n, jitted):
    def make(a, wrap=jax.jit if jitted else lambda f: f):
      f = wrap(lambda x: jnp.sin(x * a))
      loop = lambda x: lax.while_loop(
          lambda s: s[0] + 0. * f(s[1])[0] < 2.,
          lambda s: (s[0] + 1., f(s[1])), (1. * x[0], x))[1]
      cond = lambda x: lax.cond(x[0] > .5, f, lambda x: x + 1., x)
      def scan(x):
        carry, ys = lax.scan(lambda c, x: (f(c), (x * f(c), c[0])), x,
                             jnp.arange(3., dtype=x.dtype), reverse=True)
        return carry + jnp.sum(ys[0], 0) + ys[1][0]
      return {
          "scan": scan, "while": loop, "cond": cond,
          "fori": lambda x: lax.fori_loop(0, 2, lambda _, x: f(x), x),
          "switch": lambda x: lax.switch(
              jnp.int32(x[0]), [f, jnp.cos, wrap(lambda x: x + a)], x),
          "nested": lambda x: wrap(lambda x: lax.scan(
              lambda x, _: (cond(x), None), x, length=2)[0])(x),
          "remat": lambda x: jax.checkpoint(f)(x),
          "vmap": lambda x: jax.vmap(scan)(jnp.stack([x, 2. * x])).sum(0),
          "vmap_of_while": lambda x: jax.vmap(loop)(
              jnp.stack([x, 2. * x])).sum(0),
          "vmap_of_cond": lambda x: jax.vmap(cond)(
              jnp.stack([x, 2. * x])).sum(0)}[kind]

    x = jnp.full(n, .3, 'float32')
    values = [jnp.linspace(.5, k, n, dtype='float32') for k in (1., 2., 3.)]
    def loss(f, x):
      return jnp.sum(f(x) ** 2)
    has_reverse = kind not in ("while", "vmap_of_while")
    run = jax.jit(jax.value_and_grad(loss, (0, 1)) if has_reverse else loss)
    closures = [closure_to_pytree(make(a), x) for a in values]
    leaves = [[c for c in jax.tree.leaves(f) if c.shape == (n,)]
              for f in closures]
    if not jitted:  # What a jitted function captured is its constant.
      self.assertEqual([len(l) for l in leaves], [1, 1, 1])
      self.assertLen({jax.tree.structure(f) for f in closures}, 1)
      run(closures[0], x)
      with jtu.count_jit_and_pmap_lowerings() as count:
        for f in closures:
          run(f, x)
      self.assertEqual(count(), 0)
    for f, a, captured in zip(closures, values, leaves):
      direct = lambda a, x: loss(make(a, lambda f: f), x)
      got = run(f, x)
      if has_reverse:
        value, (f_bar, x_bar) = got
        f_bar = [c for c in jax.tree.leaves(f_bar) if c.shape == (n,)]
        got = value, (*f_bar, x_bar)
        value, bars = jax.value_and_grad(direct, (0, 1))(a, x)
        self.assertAllClose(got, (value, bars[-1 - len(captured):]), rtol=1e-4)
      else:
        self.assertAllClose(got, direct(a, x), rtol=1e-4)

  def test_leaves_of_a_callable_object(self):
    class Model:
      def __init__(self, a):
        self.a = a

      def __call__(self, x):
        return x * self.a

    f, g = (closure_to_pytree(Model(jnp.full(3, k)), jnp.ones(3))
            for k in (1., 2.))
    self.assertLen(jax.tree.leaves(f), 1)
    self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))

  def test_jitted_function_that_looks_at_what_is_static(self):
    def scale(x, n):
      return x * n * (1. if isinstance(n, int) else 10.)
    x = jnp.ones(3)
    for jitted in [jax.jit(scale), jax.jit(scale, static_argnums=1)] * 2:
      f = closure_to_pytree(lambda x: jitted(x, 2), x)
      self.assertAllClose(f(x), jitted(x, 2))

  def test_vjp(self):
    f, x = self.closure(2), jnp.full(3, .5, 'float32')
    out, pull = jax.vjp(lambda f, x: f(x), f, x)
    self.assertAllClose(out, self.expected(2, x))
    f_bar, x_bar = pull(jnp.ones_like(out))
    self.assertEqual(jax.tree.structure(f_bar), jax.tree.structure(f))
    a = jnp.arange(3, dtype='float32') + 2.
    self.assertAllClose(x_bar, 2. * a * jnp.cos(a * x), rtol=1e-5)
    self.assertAllClose(
        [x for x in jax.tree.leaves(f_bar) if x.dtype == a.dtype][0],
        2. * x * jnp.cos(a * x), rtol=1e-5)

  def test_bad_structure(self):
    f = closure_to_pytree(lambda x, y: x * y, 1., 2.)
    for args in (1.,), (1., 2., 3.), ((1.,), 2.):
      with self.assertRaisesRegex(TypeError, "structure"):
        f(*args)

  def test_other_types_warn(self):
    f = closure_to_pytree(lambda x, y: x * y, 1., 2.)
    with config.enable_checks(False), self.assertWarnsRegex(
        FutureWarning, r"y is of type float.*\[2\] instead of float"):
      self.assertAllClose(f(2., np.ones(2)), 2. * np.ones(2),
                          check_dtypes=False)

  def test_leaves_of_other_types_warn(self):
    a = jnp.ones(3)
    f = jax.tree.map(lambda leaf: leaf[0], closure_to_pytree(lambda: 2. * a))
    with config.enable_checks(False), self.assertWarnsRegex(
        FutureWarning, r"hoisted value 0 is of type float.*\[\] instead of"):
      self.assertAllClose(f(), 2., check_dtypes=False)

  def test_tree_map(self):
    f, g = self.closure(1), self.closure(3)
    x = jnp.full(3, .5, 'float32')
    mean = jax.tree.map(lambda x, y: (x + y) // 2 if x.dtype == 'int32'
                        else (x + y) / 2., f, g)
    self.assertAllClose(mean(x), self.expected(2, x))
    jax.tree.map(lambda *_: None, f, g)  # whatever the leaves

  def test_vmap_over_some_leaves(self):
    f, x = self.closure(1), jnp.full(3, .5, 'float32')
    axes = jax.tree.map(lambda x: 0 if x.dtype == 'int32' else None, f)
    fs = jax.tree.map(lambda x: jnp.arange(4, dtype='int32')
                      if x.dtype == 'int32' else x, f)
    out = jax.vmap(lambda f, x: f(x), (axes, None))(fs, x)
    sin = self.expected(1, x) - 1.
    self.assertAllClose(out, jnp.stack([n * sin + 1. for n in range(4)]))

  def test_copy(self):
    f, x = self.closure(1), jnp.full(3, .5, 'float32')
    for g in (copy.copy(f), copy.deepcopy(f)):
      self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))
      self.assertAllClose(g(x), self.expected(1, x))


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
