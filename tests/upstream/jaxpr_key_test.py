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

import dataclasses
import functools
import gc
import itertools
import operator
import weakref

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import core
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()


def convert(make, *captured):
  # Converts `make(*captured)`, all that it captures being traced.
  converted = []
  def trace(*captured):
    x = jax.ShapeDtypeStruct((3,), 'float32')
    converted.append(jax.closure_convert(make(*captured), x)[0])
    return 0
  jax.eval_shape(trace, *captured)
  return converted[0]

def with_jvp(rule):
  f = jax.custom_jvp(lambda x: x)
  f.defjvp(lambda p, t: (p[0], rule(t[0])))
  return f


class JaxprKeyTest(jtu.JaxTestCase):

  def assert_all_differ(self, functions):
    for f, g in itertools.combinations(functions, 2):
      self.assertNotEqual(f, g)

  def assert_same(self, f, g):
    self.assertEqual((f, hash(f)), (g, hash(g)))

  def test_fresh_closures(self):
    for make in (
        lambda a: lambda x: lax.scan(lambda c, y: (c * a + y, c[0]), x, x)[0],
        lambda a: lambda x: lax.cond(x[0] > 0, lambda: x * a, lambda: x),
        lambda a: lambda x: jnp.linalg.solve(jnp.outer(a, a), x),
        lambda a: jax.grad(lambda x: jnp.sum(jax.nn.silu(x * a))),
        lambda a: lambda x: a * np.arange(3, dtype='float32') + float('nan')):
      self.assert_same(convert(make, jnp.ones(3, 'float32')),
                       convert(make, jnp.zeros(3, 'float32')))

  def test_hoisted_values(self):
    c = jnp.ones(3, 'float32')
    self.assert_all_differ([convert(make, c, c) for make in (
        lambda a, b: lambda x: x * a + a, lambda a, b: lambda x: x * a + b,
        lambda a, b: lambda x: x * a + c, lambda a, b: lambda x: x * c + a,
        lambda a, b: lambda x: (x * a + b) * a,
        lambda a, b: lambda x: (x * a + b) * b)])

  def test_scalars(self):
    # Bit by bit, and with their types, as literals and as parameters.
    probe_p = core.Primitive('probe')
    probe_p.def_abstract_eval(lambda x, v: x)
    values = [0., -0., 0, False, 0j, 1., 1, True, float('nan'), np.float32(1),
              np.int8(1), np.uint32(0x7fc00001).view('float32')]
    self.assert_all_differ([
        *[convert(lambda: lambda x: (x, v)) for v in values],
        *[convert(lambda: lambda x: probe_p.bind(x, v=v)) for v in values]])

  def test_structure(self):
    self.assert_all_differ([convert(lambda: lambda x: tree(x)) for tree in (
        lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {1: x},
        lambda x: {True: x}, lambda x: (x, None))])

  def test_parameters(self):
    self.assert_all_differ([convert(lambda: lambda x: fun(x)) for fun in (
        lambda x: lax.reduce_precision(x, 5, 3),
        lambda x: lax.reduce_precision(x, 3, 5),
        lambda x: jnp.dot(x, x, precision='high'), lambda x: jnp.dot(x, x),
        lambda x: lax.fori_loop(0, 2, lambda _, x: jnp.sin(x), x),
        lambda x: lax.fori_loop(0, 2, lambda _, x: jnp.cos(x), x))])

  def test_name(self):
    def f(x):
      return x
    self.assertNotEqual(convert(lambda: f), convert(lambda: lambda x: x))

  @parameterized.parameters(3, 999)
  def test_numpy_array_changed_in_place(self, size):
    buffer = np.ones(size, 'float32')
    x = jnp.ones(3, 'float32')
    fun = lambda x: x * jnp.sum(buffer)
    f, g = convert(lambda: fun), convert(lambda: lambda x: fun(x))
    buffer[-1] = 2.
    self.assert_same(f, g)
    self.assertNotEqual(f, convert(lambda: fun))
    self.assertAllClose(f(x), size * x)  # The last one was 1.

  def test_numpy_array_of_a_jitted_function(self):
    # The program refers to the array itself, which can change until it is
    # compiled. So it is known by the trace that JAX's cache keeps, too.
    arrays = [np.ones(3, 'float32') for _ in range(2)]
    f, g = [jax.jit(lambda x, a=a: x * a) for a in arrays]
    self.assert_same(*[convert(lambda: lambda x: f(x)) for _ in range(2)])
    self.assertNotEqual(*[convert(lambda: lambda x: h(x)) for h in (f, g)])
    before = convert(lambda: lambda x: f(x))
    arrays[0][:] = 2.
    self.assertNotEqual(before, convert(lambda: lambda x: f(x)))

  def test_arrays_of_jax(self):
    # They are known by identity, as reading them would wait for a device.
    a, b = (jnp.ones(3, 'float32') for _ in range(2))
    f, g, h = (convert(lambda: lambda x: x * c) for c in (a, a, b))
    self.assert_same(f, g)
    self.assertNotEqual(f, h)

  def test_rules(self):
    # A rule is known by identity, as `jit` knows a function.
    make = lambda f: lambda: lambda x: f(x)
    f, g = with_jvp(lambda t: 2. * t), with_jvp(lambda t: 2. * t)
    self.assert_same(convert(make(f)), convert(make(f)))
    self.assertNotEqual(convert(make(f)), convert(make(g)))

  def test_callbacks(self):
    # They can have state.
    make = lambda: lambda x: jax.pure_callback(lambda x: x, x, x)
    self.assertNotEqual(convert(make), convert(make))

  def test_callbacks_that_write(self):
    logs = {}, {}
    for log in logs:
      write = functools.partial(operator.setitem, log, 'key')
      f = convert(lambda: lambda x: jax.debug.callback(write, x))
      jax.jit(lambda f, x: f(x), static_argnums=0)(f, jnp.ones(3, 'float32'))
      jax.effects_barrier()
    self.assertEqual([list(log) for log in logs], [['key']] * 2)

  def test_structure_that_does_not_compare(self):
    # Metadata with an array in it, whose equality is no bool.
    @functools.partial(jax.tree_util.register_dataclass, data_fields=['value'],
                       meta_fields=['info'])
    @dataclasses.dataclass
    class Node:
      value: jax.Array
      info: np.ndarray

    make = lambda: lambda x: Node(x, np.ones(2))
    self.assertNotEqual(convert(make), convert(make))

  def test_programs_that_share_others(self):
    # There are 2 ** 16 paths through the program.
    def make(fun=jnp.sin):
      for _ in range(16):
        fun = jax.jit(lambda x, f=fun: f(x) + f(2. * x))
      return fun
    with config.enable_checks(False):
      self.assert_same(convert(make), convert(make))

  def test_nothing_is_kept_alive(self):
    def make():
      cell, array = None, jnp.ones(3)
      rule = with_jvp(lambda t: t * array + (cell is None))
      cell = convert(lambda: rule)  # A cycle through the variables of the rule.
      return [weakref.ref(x) for x in (rule, array, cell)]
    refs = make()
    jax.clear_caches()
    gc.collect()
    self.assertEqual([r() for r in refs], [None] * 3)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
