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

"""A closure of a source that was seen before is not traced, and is right."""

from absl.testing import absltest, parameterized
import functools
import gc
import importlib
import math
import os
import pickle
import random
import tempfile
import time
from unittest import mock
import weakref

import numpy as np
from numpy import random as numpy_random

import jax
import apply_patch  # noqa: F401
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

try:
  from jax.custom_derivatives import closure_to_pytree
except ImportError:  # stock JAX
  closure_to_pytree = None

jax.config.parse_flags_with_absl()


_scale = 1.
_offset = jnp.zeros(())

def _scaled(x):
  return _scale * x + _offset


class TraceBySourceTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    if closure_to_pytree is None:
      self.skipTest("needs closure_to_pytree")

  def check(self, make, *values):
    # For each of the values, make(value) is a closure; converted it must be
    # what it is when called directly.
    for v in values:
      expected = make(v)(2.)
      self.assertAllClose(closure_to_pytree(make(v), 2.)(2.), expected)
    treedefs = [jax.tree.structure(closure_to_pytree(make(v), 2.))
                for v in values]
    return len(set(treedefs))

  def test_arrays(self):
    make = lambda c: lambda x: jnp.sin(c) * x
    self.assertEqual(self.check(make, jnp.array(1.), jnp.array(2.)), 1)

  def test_nested_functions_and_containers(self):
    def make(c):
      params = {"w": [c, (2 * c, "tanh")], "n": 3}
      def layer(i, x):
        return jnp.tanh(params["w"][0]) * x + params["w"][1][0] * i
      def fun(x):
        for i in range(params["n"]):
          x = functools.partial(layer, i)(x)
        return x
      return fun
    self.assertEqual(self.check(make, jnp.array(1.), jnp.array(2.)), 1)

  def test_same_code_other_python_values(self):
    make = lambda n: lambda x: x * n if n > 2 else x + n
    self.assertEqual(self.check(make, 1, 2, 3, 2 ** 20), 4)
    make = lambda n: lambda x: x * (2 if n is True else 3)
    self.assertEqual(self.check(make, 1, True, 1), 2)

  def test_branch_on_a_captured_array(self):
    def make(c):
      return lambda x: x * c if float(c) > 0 else x - c
    self.check(make, jnp.array(1.), jnp.array(-1.), jnp.array(3.))

  def test_captured_array_as_shape_or_index(self):
    make = lambda n: lambda x: jnp.ones(int(n)).sum() * x
    self.check(make, jnp.array(1), jnp.array(3))
    make = lambda n: lambda x: [x, 2 * x, 3 * x][n]
    self.check(make, jnp.array(0), jnp.array(2), np.array(1))

  def test_aliases(self):
    def make(pair):
      a, b = pair
      return lambda x: x * a + b
    one, two = jnp.array(1.), jnp.array(2.)
    self.check(make, (one, one), (one, two), (two, one), (two, two))

  def test_globals(self):
    global _scale, _offset
    try:
      make = lambda c: lambda x: _scaled(x) * c
      c = jnp.array(3.)
      self.check(make, c)
      _scale = 5.
      self.check(make, c)
      _offset = jnp.array(7.)
      self.check(make, c)
      _scale = 5
      self.check(make, c)
    finally:
      _scale, _offset = 1., jnp.zeros(())

  def test_redefined_global_function(self):
    env = {"jnp": jnp}
    source = "def helper(x):\n  return {}\n"
    exec("def make(c):\n  return lambda x: helper(x) * c", env)
    for body in ("x + 1", "x + 2", "jnp.sin(x)"):
      exec(source.format(body), env)
      self.check(env["make"], jnp.array(2.), jnp.array(3.))

  def test_import_inside(self):
    def make(c):
      def fun(x):
        import math as m
        return x * c * m.scale_of_test
      return fun
    for scale in (2., 3.):
      math.scale_of_test = scale
      try:
        self.check(make, jnp.array(2.))
      finally:
        del math.scale_of_test

  @parameterized.named_parameters(
      ("random", lambda: random.random()),
      ("numpy", lambda: np.random.random()),
      ("numpy_module", lambda: numpy_random.random()),
      ("numpy_in_a_cell", (lambda m: lambda: m.random.random())(np)),
      ("time", lambda: time.perf_counter_ns() % 1000),
      ("environment", lambda: float(os.environ["TRACE_BY_SOURCE_TEST"])))
  def test_state_of_a_library(self, draw):
    # What it was once is not what it is for a fresh closure.
    outs = set()
    for k in range(9):
      with mock.patch.dict(os.environ, TRACE_BY_SOURCE_TEST=str(k)):
        f = closure_to_pytree(lambda x: draw() * x, 1.)
      outs.add(float(f(1.)))
    self.assertGreater(len(outs), 3)

  @parameterized.parameters("numpy", "jax.numpy")
  def test_file(self, module):
    load = importlib.import_module(module).load
    np_or_jnp = importlib.import_module(module)
    for make in (lambda path: lambda x: x * load(path),
                 lambda path: lambda x: x * np_or_jnp.load(path)):
      with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "value.npy")
        for value in (1., 2., 3.):
          np.save(path, np.float32(value))
          self.check(make, path)

  def test_objects(self):
    class Model:
      def __init__(self, c):
        self.c = c
      def __call__(self, x):
        return self.c * x
    self.check(Model, 1., 2., jnp.array(3.), jnp.array(4.))
    self.check(lambda c: Model(c).__call__, 1., 2., jnp.array(3.))
    model = Model(1.)
    def make(c):
      model.c = c
      return lambda x: model(x)
    self.check(make, 1., 2., jnp.array(3.), jnp.array(4.))

  @parameterized.parameters("method", "__call__", "object")
  def test_object_that_changes(self, what):
    calls = []
    class Part:
      pass
    class Base:
      offset = 0.
      @property
      def shift(self):
        return self.offset
    class Model(Base):
      def __init__(self):
        self.scale, self.array, self.table = 1., jnp.ones(1), np.ones(1)
        self.part, self.dict, self.me = Part(), {"a": [jnp.ones(1)]}, self
        self.part.scale = 1.
      def method(self, x):
        calls.append(x)
        return (x * self.scale * self.array[0] * self.table[0] *
                self.part.scale * self.dict["a"][0][0] + self.shift)
      __call__ = method

    def check(model, expected):
      fun = model if what == "object" else getattr(model, what)
      converted, _ = jax.closure_convert(fun, 1.)
      self.assertEqual(float(converted(1.)), expected)
      self.assertEqual(float(closure_to_pytree(fun, 1.)(1.)), expected)
      before = len(calls)
      jax.closure_convert(fun, 1.)
      closure_to_pytree(fun, 1.)
      self.assertLen(calls, before)

    model = Model()
    check(model, 1.)
    model.scale = 2.
    check(model, 2.)
    model.array = jnp.full(1, 3.)
    check(model, 6.)
    model.table[0] = 5.
    check(model, 30.)
    model.part.scale = 7.
    check(model, 210.)
    model.dict["a"][0] = jnp.full(1, 11.)
    check(model, 2310.)
    Base.offset = 13.
    check(model, 2323.)
    gone = [weakref.ref(model), weakref.ref(model.array)]
    del model
    gc.collect()
    self.assertEqual([ref() for ref in gone], [None, None])

  def test_object_that_a_rule_holds(self):
    class Model:
      def method(self, x):
        f = jax.custom_jvp(lambda x: x)
        f.defjvp(lambda p, t: (p[0], t[0] * vars(self).get("scale", 1.)))
        return f(x)
    model = Model()
    jax.closure_convert(model.method, 1.)
    closure_to_pytree(model.method, 1.)
    model_ref = weakref.ref(model)
    del model
    gc.collect()
    self.assertIsNone(model_ref())

  def test_object_with_slots(self):
    class Model:
      __slots__ = ("scale", "__weakref__")
      def __call__(self, x):
        return x * self.scale
    model = Model()
    for model.scale in (1., 2., 3.):
      converted, _ = jax.closure_convert(model, 1.)
      self.assertEqual(float(converted(1.)), model.scale)
      self.assertEqual(float(closure_to_pytree(model, 1.)(1.)), model.scale)

  def test_defaults(self):
    def make(c):
      def fun(x, y=c, *, z=2 * c):
        return x * y + z
      return fun
    self.assertEqual(self.check(make, jnp.array(1.), jnp.array(2.)), 1)

  def test_jitted_functions(self):
    def make(c):
      scale = lambda x, n: x * (n if isinstance(n, int) else 10.) * c
      static = jax.jit(scale, static_argnums=1)
      traced = jax.jit(lambda x, n: jax.jit(scale)(x, n))
      return lambda x: static(x, 2) + traced(x, 2)
    self.assertEqual(self.check(make, jnp.ones(100), 2 * jnp.ones(100)), 1)

  def test_transformed_functions(self):
    make = lambda c: jax.grad(lambda x: jnp.sum(jax.nn.relu(c * x)))
    self.check(make, jnp.array(1.), jnp.array(2.))
    make = lambda c: jax.vmap(lambda i, x: c * x, (0, None), axis_size=2)
    self.check(lambda c: lambda x: make(c)(jnp.arange(2), x), jnp.array(1.),
               jnp.array(2.))

  def test_custom_rule_over_a_captured_array(self):
    def make(c):
      @jax.custom_jvp
      def f(x):
        return c * x
      f.defjvp(lambda p, t: (f(*p), 10 * c * t[0]))
      return lambda x: f(x)
    for c in (jnp.array(1.), jnp.array(2.)):
      ans = jax.grad(lambda x: closure_to_pytree(make(c), 1.)(x))(1.)
      self.assertAllClose(ans, 10 * c, check_dtypes=False)

  def test_callbacks(self):
    def make(pair):
      seen, c = pair
      def fun(x):
        jax.debug.callback(lambda x: seen.append(float(x)), c * x)
        return c * x
      return fun
    for value in (1., 2.):
      seen = []
      closure_to_pytree(make((seen, jnp.array(value))), 2.)(2.)
      jax.effects_barrier()
      self.assertEqual(seen, [2. * value])

  def test_nonlocal(self):
    def make(c):
      n = 0
      def fun(x):
        nonlocal n
        n += 1
        return c * x * n
      return fun
    self.check(make, jnp.array(1.), jnp.array(2.))

  def test_written_out_arrays(self):
    make = lambda c: lambda x: jnp.array([1., 2.])[c] * x
    self.assertEqual(self.check(make, jnp.array(0), jnp.array(1)), 1)

  def test_unused_captures_are_dropped(self):
    c, unused = jnp.array(2.), jnp.ones(1000)
    f = closure_to_pytree(lambda x: x * (c, unused)[0], 1.)
    self.assertLen(jax.tree.leaves(f), 1)

  def test_other_config(self):
    make = lambda c: lambda x: jnp.dot(jnp.full((2, 2), c), jnp.full((2, 2), x))
    c = jnp.array(2.)
    texts = []
    for precision in ("highest", "default"):
      with jax.default_matmul_precision(precision):
        f = closure_to_pytree(make(c), 1.)
      texts.append(str(jax.make_jaxpr(lambda x: f(x))(1.)))
    self.assertIn("HIGHEST", texts[0])
    self.assertNotIn("HIGHEST", texts[1])

  @parameterized.parameters(0., -0.)
  def test_python_floats(self, zero):
    make = lambda c: lambda x: jnp.copysign(x, c) + 0 * c
    self.check(make, 1., -1., zero, -zero, 3., math.inf, 5.)

  def test_changing_python_floats_become_arguments(self):
    make = lambda a, b: lambda x: a * x ** b
    treedefs = set()
    for a in (1., 2., 3., 4., 5.):
      f = closure_to_pytree(make(a, 2.), 3.)
      self.assertAllClose(f(3.), a * 9., check_dtypes=False)
      treedefs.add(jax.tree.structure(f))
    self.assertLen(treedefs, 3)  # Two misses, and then one for all.
    self.assertEqual(jax.tree.leaves(f), [5.])

  def test_changing_attributes_that_are_python_floats(self):
    class Model:
      def __init__(self, c, n):
        self.c, self.n = c, n
      def __call__(self, x):
        return self.c * x ** 2. - jnp.sin(self.c + 1.) * self.n + 2.
      def method(self, x):
        return jnp.where(x > 0., self(x), self.c)

    for make in (Model, lambda c, n: Model(c, n).method,
                 lambda c, n: (lambda m: lambda x: m(x) / 3.)(Model(c, n))):
      treedefs = []
      for i, c in enumerate((1., 2., 3., -4., 0., -0.)):
        f = closure_to_pytree(make(c, 2 + i % 2), 3.)
        self.assertAllClose(f(3.), make(c, 2 + i % 2)(3.), rtol=1e-6)
        self.assertEqual(jax.eval_shape(f, 3.), jax.eval_shape(make(c, 2), 3.))
        self.assertEqual(jax.tree.structure(pickle.loads(pickle.dumps(f))),
                         jax.tree.structure(f))
        treedefs.append(jax.tree.structure(f))
      self.assertLen(set(treedefs[:2]), 2)
      self.assertLen(set(treedefs[3:]), 1)

  def test_odeint_over_an_object_with_python_floats(self):
    class Decay:
      def __init__(self, k):
        self.k = k
      def __call__(self, y, t):
        return -self.k * y

    lowered = []
    for k in (.5, .6, .7, .8, .9, 1.):
      with jtu.count_jit_and_pmap_lowerings() as count:
        ans = odeint(Decay(k), jnp.ones(()), jnp.array([0., 1.]))[-1]
        lowered.append(count())
      self.assertAllClose(ans, np.exp(-k), check_dtypes=False, rtol=1e-5)
    self.assertEqual(lowered[3:], [0, 0, 0])

  def test_floats_in_the_program_of_a_fresh_rule(self):
    # A rule stays that of its own function.
    class Model:
      def __init__(self, c, d):
        self.c, self.cell = c, d
      def __call__(self, x):
        f = jax.custom_jvp(lambda x: x)
        f.defjvp(lambda p, t: (f(*p), self.cell[0] * t[0]))
        return self.c * f(x)

    cells = [[1.], [1.], [1.], [1.], [1.]]
    for k, cell in enumerate(cells):
      f = closure_to_pytree(Model(k + .5, cell), 1.)
      cell[0] = 2.
      self.assertAllClose(jax.grad(f)(3.), 2. * (k + .5), check_dtypes=False)

  def test_python_floats_that_cannot_be_arguments(self):
    make = lambda c: lambda x: x * c if c > 0 else x - c
    self.check(make, 1., 2., -3., 4., -5.)

  def test_odeint_of_fresh_closures(self):
    lowered = []
    def solve(k, matrix, scale):
      dynamics = lambda y, t: -k * scale * (matrix @ y)
      return odeint(dynamics, jnp.ones(2), jnp.array([0., 1.]))[-1]

    matrix = jnp.diag(jnp.array([1., 2.]))
    exact = lambda k, scale: jnp.exp(-k * scale * jnp.array([1., 2.]))
    for i in range(6):
      k, scale = jnp.array(.1 * (i + 1)), .5 + i
      with jtu.count_jit_and_pmap_lowerings() as count:
        ans = solve(k, matrix * 1., scale)
        lowered.append(count())
      self.assertAllClose(ans, exact(k, scale), check_dtypes=False, rtol=1e-5)
    self.assertEqual(lowered[3:], [0, 0, 0])

  def test_retains_nothing(self):
    def convert(value):
      c = jnp.full(3, value)
      params = {"c": c}
      fun = lambda x: params["c"] * x
      f = closure_to_pytree(fun, 1.)
      return [weakref.ref(c), weakref.ref(fun), weakref.ref(f)]
    refs = convert(1.) + convert(2.)
    gc.collect()
    self.assertEqual([r() for r in refs], [None] * 6)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
