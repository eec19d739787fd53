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


import copy
import functools
import os
import pickle
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

import jax
import apply_patch  # noqa: F401
import jax.numpy as jnp
from jax import lax
from jax._src import core
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
      "jit", "scan", "carry", "cond", "while", "remat", "custom_vjp",
      "custom_jvp", "vmap")
  def test_is_an_argument_like_any_other(self, kind):
    x = jnp.full(3, .5, 'float32')
    call = lambda f, x: f(x)
    def scan(f, x):
      return lax.scan(lambda x, _: (f(x), None), x, length=1)[0]
    def carry(f, x):
      return lax.scan(lambda s, _: ((s[0], s[0](s[1])), None), (f, x),
                      length=1)[0][1]
    def cond(f, x):
      return lax.cond(x[0] > 0, lambda f, x: f(x), lambda f, x: 0. * f(x), f, x)
    def loop(f, x):
      return lax.while_loop(lambda s: s[0] < 1,
                            lambda s: (s[0] + 1, s[1], s[1](s[2])),
                            (0, f, x))[2]
    def vmap(f, x):
      fs = jax.tree.map(lambda x: jnp.stack([x, x]), f)
      return jax.vmap(call, (0, None))(fs, x)[1]
    vjp = jax.custom_vjp(call)
    vjp.defvjp(lambda f, x: (f(x), (f, x)),
               lambda res, g: jax.vjp(call, *res)[1](g))
    jvp = jax.custom_jvp(call)
    jvp.defjvp(lambda primals, tangents: jax.jvp(call, primals, tangents))
    wrapped = dict(jit=call, scan=scan, carry=carry, cond=cond,
                   remat=jax.checkpoint(call), vmap=vmap, custom_vjp=vjp,
                   custom_jvp=jvp, **{'while': loop})[kind]
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
    for make in (lambda x: x * a * b * jnp.sum(big),
                 lambda x: jax.jit(lambda x: x * a * b * jnp.sum(big))(x),
                 lambda x: lax.fori_loop(
                     0, 2, lambda _, x: x * a * b * jnp.sum(big), x)):
      f = closure_to_pytree(make, a)
      shapes = sorted(x.shape for x in jax.tree.leaves(f))
      self.assertEqual(shapes, [(3,), (3,), (300,)])

  @parameterized.product(
      kind=["scan", "fori", "while", "cond", "switch", "nested", "remat",
            "vmap", "vmap_of_while", "vmap_of_cond"], n=[3, 100])
  def test_captured_by_jitted_functions_in_bodies(self, kind, n):
    # JAX leaves what these capture in their programs.
    def make(a, wrap=jax.jit):
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
    if kind == "vmap_of_while":  # Of a batched condition nothing is hoisted.
      self.assertEmpty(jax.tree.leaves(closures[0]))
    else:
      self.assertLen({jax.tree.structure(f) for f in closures}, 1)
      arrays = [c for c in jax.tree.leaves(closures[0]) if c.shape == (n,)]
      self.assertLen(arrays, 1)
      run(closures[0], x)
      with jtu.count_jit_and_pmap_lowerings() as count:
        for f in closures:
          run(f, x)
      self.assertEqual(count(), 0)
    for f, a in zip(closures, values):
      direct = lambda a, x: loss(make(a, lambda f: f), x)
      got = run(f, x)
      if has_reverse:
        value, (f_bar, x_bar) = got
        f_bar = [c for c in jax.tree.leaves(f_bar) if c.shape == (n,)]
        got = value, (*f_bar, x_bar)
        direct = jax.value_and_grad(direct, (0, 1))
      self.assertAllClose(got, direct(a, x), rtol=1e-4)

  def test_leaves_of_a_callable_object(self):
    class Model:
      def __init__(self, a):
        self.a = a

      def __call__(self, x):
        return jax.jit(lambda x: x * self.a)(x)

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

  @parameterized.parameters(
      ((1.,), "expected 2 positional argument.s. but got 1"),
      ((1., 2., 3.), "expected 2 positional argument.s. but got 3"),
      (((1.,), 2.), "match the example arguments in pytree structure"),
      ((1., np.ones(2)), r"args\[1\] was float\d+\[\], but is float\d+\[2\]"))
  def test_bad_arguments(self, args, message):
    f = closure_to_pytree(lambda x, y: x * y, 1., 2.)
    with self.assertRaisesRegex(
        TypeError, "closure produced by closure_to_pytree .*" + message):
      f(*args)

  def test_bad_leaves(self):
    a = jnp.ones(3)
    f = jax.tree.map(lambda leaf: leaf[0], closure_to_pytree(lambda: a))
    with self.assertRaisesRegex(TypeError, "closure_to_pytree .* value 0"):
      f()

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


class PickleTest(jtu.JaxTestCase):

  def closure(self, k):
    a, table = jnp.arange(3.) + k, np.arange(3.)
    def fun(x, *, n):
      x = lax.fori_loop(0, 3, lambda _, x: jnp.sin(a * x), x)
      x = jax.jit(lambda x: jax.nn.silu(x * table) + .5)(x)
      x = lax.cond(n > 0, jnp.cos, jnp.exp, x)
      return {"x": jnp.linalg.solve(jnp.eye(3) + jnp.outer(a, a), x) - 2.}
    return closure_to_pytree(fun, np.ones(3), n=1)

  def assertSame(self, f, g):
    self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))
    self.assertEqual(hash(jax.tree.structure(f)), hash(jax.tree.structure(g)))
    for x, y in zip(*map(jax.tree.leaves, (f, g))):
      self.assertEqual(core.typeof(x), core.typeof(y))
      self.assertArraysEqual(x, y)

  def test_loads_what_was_saved(self):
    f, x = self.closure(1), np.ones(3)
    data = pickle.dumps(f)
    g, h = pickle.loads(data), pickle.loads(data)
    for other in (f, h, self.closure(1)):
      self.assertSame(g, other)
    loss = lambda f, x: jnp.sum(f(x, n=2)["x"])
    run = jax.jit(jax.value_and_grad(loss, (0, 1)))
    expected = run(f, x)
    with jtu.count_jit_and_pmap_lowerings() as count:
      got = run(g, x)
    self.assertEqual(count(), 0)
    jax.tree.map(self.assertArraysEqual, got, expected)

  def test_leaves_that_were_replaced(self):
    f = jax.tree.map(lambda x: 2. * x, self.closure(1))
    g = pickle.loads(pickle.dumps(f))
    self.assertSame(f, g)
    self.assertAllClose(f(np.ones(3), n=0), g(np.ones(3), n=0))
    nones = jax.tree.map(lambda x: None, f)
    self.assertIsNone(pickle.loads(pickle.dumps(nones))._consts[0])

  def test_closure_that_outlives_its_function(self):
    def make():
      class Scale:
        a = jnp.full(3, 2.)
        def __call__(self, x):
          return self.a * x
      return closure_to_pytree(Scale(), np.ones(3))
    g = pickle.loads(pickle.dumps(make()))
    self.assertAllClose(g(np.ones(3)), np.full(3, 2.), check_dtypes=False)

  def test_other_process(self):
    f = closure_to_pytree(lambda x: jnp.where(x > 0., x ** 2, 3.), np.ones(3))
    with tempfile.TemporaryDirectory() as directory:
      path = os.path.join(directory, "closure")
      with open(path, "wb") as file:
        pickle.dump(f, file)
      run = subprocess.run(
          [sys.executable, "-c", "import runpy, sys; runpy.run_path("
           "sys.argv[1])['call_what_was_saved'](sys.argv[2])", __file__, path],
          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
          capture_output=True, text=True)
    self.assertEqual(run.stdout, "[3. 1. 4.]\n", run.stderr)

  def test_arguments_that_are_closures(self):
    f = self.closure(1)
    g = closure_to_pytree(lambda f, x: f(x, n=1), f, np.ones(3))
    h = pickle.loads(pickle.dumps(g))
    self.assertAllClose(h(f, np.ones(3)), g(f, np.ones(3)))

  def test_types(self):
    # A weak type, and dtypes that depend on jax_enable_x64.
    key = jax.random.key(0)
    try:
      pickle.dumps(key)
    except TypeError:
      self.skipTest("this JAX does not pickle keys")
    f = closure_to_pytree(
        lambda x: x * jnp.asarray(2.) + 1.5 + jax.random.uniform(key), 1)
    g = pickle.loads(pickle.dumps(f))
    self.assertEqual(jax.eval_shape(f, 1), jax.eval_shape(g, 1))
    self.assertAllClose(f(1), g(1))

  def test_what_cannot_be_pickled(self):
    def callback(x):
      return jax.pure_callback(
          _sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    x = np.ones(3)
    for name, fun in [("custom_jvp_call", jax.nn.relu),
                      ("custom_jvp_call", lambda x: lax.fori_loop(
                          0, 3, lambda _, x: jax.nn.relu(x), x)),
                      ("pure_callback", callback)]:
      for f in (fun, jax.jit(fun)):
        f = closure_to_pytree(f, x)
        with self.assertRaisesRegex(pickle.PicklingError, f"because of {name}"):
          pickle.dumps(f)

  def test_traced_leaves(self):
    def fun(a):
      f = closure_to_pytree(lambda x: a * x, 1.)
      with self.assertRaises(Exception):
        pickle.dumps(f)
      return a
    jax.jit(fun)(1.)

  def test_other_version(self):
    data = pickle.dumps(self.closure(1))
    with mock.patch.object(jax.version, "__version__", "0.0.1"):
      with self.assertRaisesRegex(pickle.UnpicklingError, "0.0.1"):
        pickle.loads(data)

  def test_copy(self):
    f = self.closure(1)
    for g in (copy.copy(f), copy.deepcopy(f)):
      self.assertSame(f, g)

def call_what_was_saved(path):
  with open(path, "rb") as file:
    f = pickle.load(file)
  print(np.asarray(f(np.arange(3.))))

def _sin(x):
  return np.sin(x)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
