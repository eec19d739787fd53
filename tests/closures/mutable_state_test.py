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

"""Functions that are bound to mutable objects give the right numbers.

A converted function compares by the identity of the user's functions in it. An
object to which they are bound may have changed since an earlier conversion.
"""

import collections
import dataclasses
import functools
import inspect
import warnings

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import core
from jax._src import hijax
from jax._src import test_util as jtu
from jax._src.state.types import AbstractRef
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

VALUES = 2., 5., 3., 2.

@functools.partial(jax.jit, static_argnums=0)
def call(f, *args):
  return f(*args)

@functools.partial(jax.jit, static_argnums=0)
def gradient(f, *args):
  return jax.grad(f)(*args)

def convert(f, *args):
  return jax.closure_convert(f, *args)[0]


class _Owner:

  def __init__(self, table):
    self.table = table

  def rule(self, primals, tangents):
    return 1. * primals[0], self.table[0] * tangents[0]

  def bwd(self, _, g):
    return self.table[0] * g,

  def callback(self, x):
    return np.float32(self.table[0])

  def __call__(self, primals, tangents):
    return self.rule(primals, tangents)

class _EqualOwner(_Owner):

  def __eq__(self, other):
    return True

  def __hash__(self):
    return 0

def _rule(table, primals, tangents):
  return 1. * primals[0], table[0] * tangents[0]

def _rule_of_keyword(primals, tangents, table):
  return _rule(table, primals, tangents)

def _callback(table, x):
  return np.float32(table[0])

def with_jvp(rule):
  f = jax.custom_jvp(lambda x: 1. * x)
  f.defjvp(rule)
  return lambda x: f(x)

def with_vjp(bwd):
  f = jax.custom_vjp(lambda x: 1. * x)
  f.defvjp(lambda x: (1. * x, None), bwd)
  return lambda x: f(x)

@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _nondiff_jvp(table, x):
  return 1. * x

@_nondiff_jvp.defjvp
def _(table, primals, tangents):
  return _rule(getattr(table, "table", table), primals, tangents)

@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _nondiff_tuple(owners, x):
  return 1. * x

@_nondiff_tuple.defjvp
def _(owners, primals, tangents):
  return owners[0].rule(primals, tangents)

@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _nondiff_vjp(table, x):
  return 1. * x

_nondiff_vjp.defvjp(lambda table, x: (1. * x, None),
                    lambda table, _, g: (table[0] * g,))

_RULES = {
    "function": lambda l: with_jvp(lambda p, t: _rule(l, p, t)),
    "method": lambda l: with_jvp(_Owner(l).rule),
    "callable": lambda l: with_jvp(_Owner(l)),
    "partial": lambda l: with_jvp(functools.partial(_rule, l)),
    "partial_of_keyword": lambda l: with_jvp(
        functools.partial(_rule_of_keyword, table=l)),
    "Partial": lambda l: with_jvp(jax.tree_util.Partial(_rule, l)),
    "partial_of_method": lambda l: with_jvp(functools.partial(_Owner(l).rule)),
    "jit": lambda l: with_jvp(jax.jit(_Owner(l).rule)),
    "wrapped": lambda l: with_jvp(
        functools.wraps(jnp.sin)(lambda p, t: _rule(l, p, t))),
    "bwd": lambda l: with_vjp(_Owner(l).bwd),
    "bwd_of_partial": lambda l: with_vjp(
        functools.partial(lambda l, _, g: (l[0] * g,), l)),
    "object_in_tuple": lambda l: lambda x: _nondiff_tuple((_Owner(l), 1), x),
    "object": lambda l: lambda x: _nondiff_jvp(_Owner(l), x),
    "evil_equality": lambda l: lambda x: _nondiff_jvp(_EqualOwner(l), x),
    "list_of_vjp": lambda l: lambda x: _nondiff_vjp(l, x),
}

def _pure(fun):
  return lambda x: jax.pure_callback(fun, jax.ShapeDtypeStruct((), 'float32'), x)

_CALLBACKS = {
    "method": lambda l: _pure(_Owner(l).callback),
    "partial": lambda l: _pure(functools.partial(_callback, l)),
    "item": lambda l: _pure(lambda x: np.float32(l[0])),
    "io": lambda l: lambda x: jax.experimental.io_callback(
        functools.partial(_callback, l), jax.ShapeDtypeStruct((), 'float32'), x),
}

def _subclass(base, value):
  cls = type(f"My_{base.__name__}", (base,), {})
  return cls(value)

_SUBCLASSES = [(float, 1.), (complex, 1j), (str, "a"), (bytes, b"a"), (int, 1),
               (tuple, (1,)), (frozenset, (1,)), (np.float64, 1.)]


class BoundTest(jtu.JaxTestCase):

  @parameterized.parameters(*_RULES)
  def test_rule_of_equal_lists(self, kind):
    # They are equal at the conversion, and differ when the rule is traced.
    for value in VALUES:
      table = [1.]
      f = convert(_RULES[kind](table), 1.)
      table[0] = value
      self.assertEqual(gradient(f, 1.), value)

  @parameterized.parameters(*_CALLBACKS)
  def test_callback_of_equal_lists(self, kind):
    for value in VALUES:
      table = [1.]
      f = convert(_CALLBACKS[kind](table), 1.)
      table[0] = value
      self.assertEqual(call(f, 1.), value)

  @parameterized.parameters(*_CALLBACKS)
  def test_callback_of_one_list(self, kind):
    table = [1.]
    for value in VALUES:
      f = convert(_CALLBACKS[kind](table), 1.)
      table[0] = value
      self.assertEqual(call(f, 1.), value)

  def test_callback_of_jax(self):
    table = [np.float32(1)]
    f = functools.partial(jnp.choose, jnp.int32(0))
    for value in VALUES:
      converted = convert(lambda x: jax.pure_callback(
          lambda _: f(choices=table), jax.ShapeDtypeStruct((), 'float32'), x), 1.)
      table[0] = np.float32(value)
      self.assertEqual(call(converted, 1.), value)

  @parameterized.parameters(*_SUBCLASSES)
  def test_equal_values_with_other_attributes(self, base, value):
    for k in VALUES:
      static = _subclass(base, value)
      static.table = [k]
      f = convert(lambda x: _nondiff_jvp(static, x), 1.)
      self.assertEqual(gradient(f, 1.), k)

  def test_converted_function_in_a_rule(self):
    def solve(k):
      f, aux = jax.closure_convert(lambda x: k * x, 1.)
      return convert(lambda x: _apply(f, x, *aux), 1.)
    self.assertEqual(solve(2.), solve(2.))
    self.assertNotEqual(solve(2.), solve(3.))
    self.assertEqual(gradient(solve(3.), 1.), 3.)

  def test_hijax_primitive_bound_again(self):
    class Scale(_HiPrim):
      def __init__(self):
        self.in_avals = self.out_aval, = jax.typeof(jnp.float32(1)),
        self.params = {}
        super().__init__()

      def expand(self, x):
        return self.k * x

    scale = Scale()
    for scale.k in VALUES:
      f = convert(lambda x: scale(x), jnp.float32(1))
      self.assertEqual(call(f, jnp.float32(1)), scale.k)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _apply(f, x, *aux):
  return f(x, *aux)

@_apply.defjvp
def _(f, primals, tangents):
  return jax.jvp(f, primals, tangents)


class ParametersTest(jtu.JaxTestCase):

  def test_attributes_of_ffi_calls(self):
    out = jax.ShapeDtypeStruct((), 'float32')
    functions = [
        convert(lambda x: jax.ffi.ffi_call("target", out)(x, options={"a": v}),
                1.)
        for v in (0., -0., 1, True, 1., np.int32(1))]
    self.assertLen(set(functions), len(functions))

  def test_kind_of_a_reference(self):
    def make(kind):
      ref = AbstractRef(jax.typeof(jnp.float32(1)), kind=kind)
      return convert(lambda x: probe_p.bind(x, ref=ref), 1.)
    probe_p = core.Primitive("probe")
    probe_p.def_abstract_eval(lambda x, ref: x)
    self.assertEqual(make("a"), make("a"))
    self.assertNotEqual(make("a"), make(None))

  def test_named_tuple_with_its_own_iteration(self):
    class Pair(collections.namedtuple("Pair", "a b")):
      __slots__ = ()

      def __iter__(self):
        return iter(())

    make = lambda *pair: convert(lambda x: _nondiff_jvp(Pair(*pair), x), 1.)
    self.assertEqual(make(1, 2), make(1, 2))
    self.assertNotEqual(make(1, 2), make(1, 3))

  def test_metadata_of_outputs(self):
    @functools.partial(jax.tree_util.register_dataclass,
                       data_fields=["value"], meta_fields=["info"])
    @dataclasses.dataclass
    class Node:
      value: object
      info: object

    class Info:  # Equal to every other, and shown like it.
      def __init__(self, k):
        self.k = k
      def __eq__(self, other):
        return True
      def __hash__(self):
        return 0
      def __repr__(self):
        raise ValueError

    for k in VALUES:
      info = convert(lambda x: Node(x, Info(k)), 1.)(1.).info
      self.assertEqual(info.k, k)
    for k in 1, 1., True, 1:
      for info in k, (k,), {"a": k}:
        out = convert(lambda x: Node(x, info), 1.)(1.).info
        self.assertEqual(str(out), str(info))


class PassedAgainTest(jtu.JaxTestCase):

  @parameterized.parameters(
      "plain", "asarray", "scalar", "partial", "pytree", "odeint")
  def test_array_changed_in_place(self, kind):
    buffer = np.ones(() if kind == "scalar" else 2, jnp.result_type(float))
    fun = {
        "asarray": lambda x: (x * jnp.asarray(buffer)).sum(),
        "partial": functools.partial(lambda b, x: (x * b).sum(), buffer),
        "odeint": lambda y, t: (y * buffer).sum(),
    }.get(kind, lambda x: (x * buffer).sum())
    for k in VALUES:
      buffer[...] = k
      if kind == "odeint":
        out = (odeint(fun, 1., jnp.array([0., 1e-3]))[-1] - 1.) * 1e3
      elif kind == "pytree":
        out = jax.custom_derivatives.closure_to_pytree(fun, 1.)(1.)
      else:
        converted, aux = jax.closure_convert(fun, 1.)
        out = converted(1., *aux)
      self.assertAllClose(out, k * buffer.size, check_dtypes=False, rtol=1e-2)

  def test_array_of_a_jitted_function_changed_and_changed_back(self):
    buffer = np.ones(2, 'float32')
    jitted = jax.jit(lambda x: (x * buffer).sum())
    before = convert(lambda x: jitted(x), 1.)
    buffer[:] = 5.
    call(before, 1.)  # What this gives depends on when JAX reads the array.
    buffer[:] = 1.
    self.assertEqual(call(convert(lambda x: jitted(x), 1.), 1.), 2.)

  def test_method_and_callable_object(self):
    # Stock JAX remembers both, and gives the old number.
    class Model:
      def rate(self, y, t):
        return -self.k * y
      __call__ = rate

    model, ts = Model(), jnp.array([0., 1.])
    for model.k in VALUES:
      for dynamics in model.rate, model, functools.partial(model.rate):
        self.assertAllClose(odeint(dynamics, 1., ts)[-1], np.exp(-model.k),
                            check_dtypes=False, rtol=1e-4)

  @parameterized.parameters("function", "partial", "jit", "partial_of_jit")
  def test_is_traced_once(self, kind):
    traces = []
    def f(x):
      traces.append(x)
      return 2. * x
    fun = dict(function=f, partial=functools.partial(f), jit=jax.jit(f),
               partial_of_jit=functools.partial(jax.jit(f)))[kind]
    for _ in range(3):
      self.assertEqual(convert(fun, 1.)(3.), 6.)
    self.assertLen(traces, 1)


_HiPrim = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive

@dataclasses.dataclass(frozen=True)
class _HiddenType(hijax.HiType):
  inner: object

  def lo_ty(self):
    return [self.inner]

  def lower_val(self, hidden):
    return [hidden.array]

  def raise_val(self, array):
    return _Hidden(array)

  def to_tangent_aval(self):
    return self

@dataclasses.dataclass
class _Hidden:
  array: object

hijax.register_hitype(_Hidden, lambda h: _HiddenType(jax.typeof(h.array)))

def _get(example):
  class Get(_HiPrim):
    def __init__(self):
      self.in_avals, self.params = (jax.typeof(example),), {}
      self.out_aval = jax.typeof(example).inner
      super().__init__()

    def expand(self, hidden):
      return 2. * hidden.array
  return Get()


class AcceptedTest(jtu.JaxTestCase):

  @parameterized.named_parameters(
      ("bfloat16", lambda f, x, a: f(x.astype('bfloat16'),
                                     a.astype('bfloat16')), 3., 2.),
      ("batch", lambda f, x, a: f(x, jnp.broadcast_to(a, 4)).sum(), 12., 8.),
      ("where", lambda f, x, a: f(x, jnp.where(
          jnp.array([True, False]), a, lax.stop_gradient(a))).sum(), 3., 4.),
      ("map", lambda f, x, a: lax.map(
          lambda a: f(x, a), jnp.stack([a, a])).sum(), 6., 4.))
  def test_hoisted_values_of_other_types(self, use, a_bar, x_bar):
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
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        for state in 0., "text", object(), jnp.ones(7, int):
          out = converted(3., state, *aux)
      return out
    with config.enable_checks(False):
      self.assertAllClose(f(2., jnp.ones(3)), 6., check_dtypes=False)

  def test_value_of_a_hijax_type(self):
    get = _get(_Hidden(jnp.ones(3)))
    f, aux = jax.closure_convert(get, _Hidden(jnp.ones(3)))
    self.assertAllClose(f(_Hidden(2. * jnp.ones(3)), *aux), 4. * jnp.ones(3))
    @jax.jit
    def captured(hidden):
      f, aux = jax.closure_convert(lambda x: x * get(hidden), 1.)
      self.assertLen(aux, 1)
      return f(3., *aux)
    self.assertAllClose(captured(_Hidden(jnp.ones(3))), 6. * jnp.ones(3))

  def test_is_a_function(self):
    converted = convert(lambda x: x, 1.)
    self.assertTrue(inspect.isfunction(converted))

  def test_array_of_another_precision_in_a_pullback(self):
    c = np.arange(3.)
    with jax.enable_x64(True):
      f = convert(lambda y: (y * c).sum(), np.ones(3))
      out, pullback = jax.vjp(f, jnp.ones(3))
      one = jnp.ones_like(out)
    y_bar, = pullback(one)
    self.assertAllClose(np.asarray(y_bar), c)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
