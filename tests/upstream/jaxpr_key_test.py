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

import collections
import functools
import gc
import itertools
import weakref

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import core
from jax._src import literals
from jax._src import test_util as jtu
from jax._src import util
from jax._src.frozen_dict import FrozenDict

jax.config.parse_flags_with_absl()


probe_p = core.Primitive('probe')
probe_p.multiple_results = True
probe_p.def_abstract_eval(lambda x, **_: [x, x])

def convert(make, *captured):
  # Converts `make(*captured)`, all that it captures being traced.
  converted = []
  def trace(*captured):
    x = jax.ShapeDtypeStruct((3,), 'float32')
    converted.append(jax.closure_convert(make(*captured), x)[0])
    return 0
  jax.make_jaxpr(trace)(*captured)
  return converted[0]

# A function of JAX is compared by its variables.
of_jax = {'__name__': 'jax.test'}
exec('''
def function(x, y=None, z=None, first=True):
  return (lambda y=y, *, z=z: x) if first else (lambda y=y, *, z=z: x)

class NoHash:
  __eq__ = lambda self, other: True
''', of_jax)

def convert_with(value, **kwargs):
  f = of_jax['function'](value, **kwargs)
  return convert(lambda: lambda x: probe_p.bind(x, f=f)[0])

def with_jvp(rule):
  f = jax.custom_jvp(lambda x: x)
  f.defjvp(lambda p, t: (p[0], rule(t[0])))
  return f

with_batching_rule = jax.custom_batching.custom_vmap(lambda x: x)
with_batching_rule.def_vmap(lambda size, batched, x: (x, *batched))

class State:
  method = lambda self: None
  other_method = lambda self: None

@jax.tree_util.register_pytree_node_class
class Node:
  tree_flatten = lambda self: ((), [1])
  tree_unflatten = classmethod(lambda *_: Node())

Point = collections.namedtuple('Point', 'x')
Size = collections.namedtuple('Size', 'x')


class JaxprKeyTest(jtu.JaxTestCase):

  def assert_all_differ(self, functions):
    for (i, f), (j, g) in itertools.combinations(enumerate(functions), 2):
      self.assertNotEqual(f, g, f'{i} and {j}')

  def assert_same(self, f, g):
    self.assertEqual((f, hash(f)), (g, hash(g)))

  def test_fresh_closures(self):
    rule = with_jvp(lambda t: 2. * t)
    for make in (
        lambda a: lambda x: lax.scan(lambda c, y: (c * a + y, c[0]), x, x)[0],
        lambda a: lambda x: lax.cond(x[0] > 0, lambda: x * a, lambda: x),
        lambda a: lambda x: jnp.linalg.solve(jnp.outer(a, a), x),
        lambda a: lambda x: with_batching_rule(rule(a * x)),
        lambda a: jax.grad(lambda x: jnp.sum(jax.nn.silu(x * a))),
        lambda a: lambda x: a * np.float32([1, 2, np.nan]) + float('nan')):
      self.assert_same(convert(make, jnp.ones(3, 'float32')),
                       convert(make, jnp.zeros(3, 'float32')))

  def test_programs(self):
    c = jnp.ones(3, 'float32')
    def f(x):
      return x
    self.assertEqual(convert(lambda: f).__name__, 'f')
    refs = jax.new_ref(c), jax.new_ref(c, kind='no_grad_no_remat')
    self.assert_all_differ([
        convert(lambda r: lambda x: x * r[...], r) for r in refs])
    self.assert_all_differ([convert(make, c, c) for make in (
        lambda a, b: lambda x: x * a + a, lambda a, b: lambda x: x * a + b,
        lambda a, b: lambda x: x * a + c, lambda a, b: lambda x: x * c + a,
        lambda a, b: lambda x: (x * a + b) * a,
        lambda a, b: lambda x: (x * a + b) * b,
        lambda a, b: f,  # Its name differs from that of the next one.
        *[lambda a, b, f=f: lambda x: f(x) for f in (
            lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {1: x},
            lambda x: {True: x}, lambda x: (x, None),
            lambda x: jax.jit(lambda x, y: x - y)(x, 2. * x),
            lambda x: jax.jit(lambda x, y: y - x)(x, 2. * x),
            lambda x: lax.reduce_precision(x, 5, 3),
            lambda x: lax.reduce_precision(x, 3, 5),
            lambda x: lax.fori_loop(0, 2, lambda _, x: jnp.sin(x), x),
            lambda x: lax.fori_loop(0, 2, lambda _, x: jnp.cos(x), x),
            lambda x: probe_p.bind(x, a=1)[0],
            lambda x: probe_p.bind(x, b=1)[0],
            lambda x: probe_p.bind(x, a=1)[1], jnp.sin,
            jax.threefry_partitionable(False)(jnp.sin),
            # Functions of the user's can have state.
            with_jvp(lambda t: 2. * t), with_jvp(lambda t: 2. * t),
            lambda x: jax.pure_callback(lambda x: x, x, x),
            lambda x: jax.pure_callback(lambda x: x, x, x))])])

  def test_values(self):
    # Scalars compare bit by bit, and with their types.
    scalars = [0., -0., 0, False, 0j, 1., 1, True, float('nan'), np.float32(1),
               np.int8(1), np.uint32(0x7fc00001).view('float32')]
    state, log, f = State(), [], lambda x: x
    self.assert_all_differ([
        *[convert(lambda: lambda x: (x, v)) for v in scalars],
        *map(convert_with, [
            *scalars, np.float64(1), literals.TypedFloat(1., np.dtype(float)),
            np.datetime64(1, 's'), np.datetime64(1, 'm'), 'a', b'a', None,
            (), (1,), frozenset(), frozenset([1]), [], {}, set(), [1], {1},
            {1: 1}, {1: 2}, Point(1), Size(1), state, state.method,
            state.other_method, State().method, log.append, log.pop, f,
            lambda x: x, functools.partial(f), functools.partial(f, 1),
            functools.partial(f, x=1), functools.partial(print, 1),
            jax.tree_util.Partial(f), jax.P('i'), util.Hashable(2),
            util.Hashable(2.), FrozenDict({'a': 1}), FrozenDict({'a': True}),
            *map(jax.tree.structure, (1, None, (), [], (1,), {1: 1}))]),
        convert_with(1, y=1), convert_with(1, z=1),
        convert_with(1, first=False)])

  def test_values_that_do_not_change(self):
    state, log, f, array = State(), [], lambda x: x, jnp.ones(3)
    for make in (
        lambda: int('1000'), lambda: float('1e3'), lambda: complex('1e3'),
        lambda: np.float32(1e3), lambda: np.datetime64(1, 's'), lambda: array,
        lambda: str(1000), lambda: str(1000).encode(), lambda: frozenset([1e3]),
        lambda: Point((1e3,)), lambda: [[1e3], {'a': 1e3}, {1e3}],
        lambda: functools.partial(f, 1e3, Point(1e3)), lambda: state.method,
        lambda: jax.tree_util.Partial(f, 1e3), lambda: log.append,
        lambda: util.Hashable(1e3), lambda: util.Unhashable(1e3),
        lambda: jax.P('i'), lambda: core.ShapedArray((3,), np.dtype('int8')),
        lambda: jax.tree.structure({'a': [collections.OrderedDict(b=1)]})):
      self.assert_same(convert_with(make()), convert_with(make()))

  def test_values_that_can_change(self):
    # Or that contain themselves, or that are an array, which is not read.
    loop = []
    loop.append(loop)
    for make in (
        State, lambda: lambda x: x, lambda: functools.partial(print, []),
        lambda: util.Unhashable({}), lambda: np.zeros((), 'i4,i4')[()],
        lambda: jax.tree.structure(Node()), lambda: loop, of_jax['NoHash'],
        lambda: jnp.ones(3), *[functools.partial(type('Subclass', (t,), {}), 1)
                               for t in (int, str, Point)]):
      self.assertNotEqual(convert_with(make()), convert_with(make()))

  @parameterized.parameters(7, 999)
  def test_numpy_array_changed_in_place(self, size):
    buffer = np.ones(size, 'float32')
    x = jnp.ones(3, 'float32')
    fun = lambda x: (x * jnp.sum(buffer), buffer)
    f, g = convert(lambda: fun), convert(lambda: lambda x: fun(x))
    buffer[-1] = 2.
    self.assert_same(f, g)
    self.assertNotEqual(f, convert(lambda: fun))
    out, copy = f(x)
    self.assertAllClose(out, size * x)  # The last one was 1.
    self.assertFalse(copy.flags.writeable)

  def test_numpy_array_of_a_jitted_function(self):
    # The program refers to the array itself, which can change until it is
    # compiled. So it is known by the trace that JAX's cache keeps, too.
    arrays = [np.ones(3, 'float32') for _ in range(2)]
    f, g = [jax.jit(lambda x, a=a: x * a) for a in arrays]
    self.assert_same(*[convert(lambda: lambda x: f(x)) for _ in range(2)])
    self.assertNotEqual(*[convert(lambda: lambda x: h(x)) for h in (f, g)])
    before = convert(lambda: lambda x: f(x))
    for value in 2., 1.:
      arrays[0][:] = value
      self.assertNotEqual(before, convert(lambda: lambda x: f(x)))
      jax.eval_shape(before, np.ones(3, 'float32'))

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
