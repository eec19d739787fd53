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

"""Functions that refer to mutable objects give the right numbers.

A converted function compares by the identity of the user's functions in it. An
object to which they refer may have changed since an earlier conversion.
"""

import functools
import types

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
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

# Rules whose factor is the item of a list.

class _Owner:

  def __init__(self, table):
    self.table = table

  def rule(self, primals, tangents):
    return 1. * primals[0], self.table[0] * tangents[0]

  def bwd(self, _, g):
    return self.table[0] * g,

  def callback(self, x):
    return np.float32(self.table[0])

  __call__ = rule

class _EqualOwner(_Owner):
  __eq__ = lambda self, other: True
  __hash__ = lambda self: 0

def _rule(table, primals, tangents):
  return 1. * primals[0], table[0] * tangents[0]

def with_jvp(rule):
  f = jax.custom_jvp(lambda x: 1. * x)
  f.defjvp(rule)
  return lambda x: f(x)

def with_vjp(bwd):
  f = jax.custom_vjp(lambda x: 1. * x)
  f.defvjp(lambda x: (1. * x, None), bwd)
  return lambda x: f(x)

# What is not differentiated can be an argument.
_nondiff = jax.custom_jvp(lambda owners, x: 1. * x, nondiff_argnums=(0,))
_nondiff.defjvp(lambda owners, p, t: owners[0].rule(p, t))
_nondiff_vjp = jax.custom_vjp(lambda table, x: 1. * x, nondiff_argnums=(0,))
_nondiff_vjp.defvjp(lambda table, x: (1. * x, None),
                    lambda table, _, g: (table[0] * g,))

_RULES = {
    "function": lambda l: with_jvp(lambda p, t: _rule(l, p, t)),
    "method": lambda l: with_jvp(_Owner(l).rule),
    "callable": lambda l: with_jvp(_Owner(l)),
    "partial": lambda l: with_jvp(functools.partial(_rule, l)),
    "Partial": lambda l: with_jvp(jax.tree_util.Partial(_rule, l)),
    "jit": lambda l: with_jvp(jax.jit(_Owner(l).rule)),
    "wrapped": lambda l: with_jvp(
        functools.wraps(jnp.sin)(lambda p, t: _rule(l, p, t))),
    "bwd": lambda l: with_vjp(_Owner(l).bwd),
    "object_in_tuple": lambda l: lambda x: _nondiff((_Owner(l), 1), x),
    "object_in_list": lambda l: lambda x: _nondiff([_Owner(l)], x),
    "evil_equality": lambda l: lambda x: _nondiff((_EqualOwner(l),), x),
    "list_of_vjp": lambda l: lambda x: _nondiff_vjp(l, x),
}

_SCALAR = jax.ShapeDtypeStruct((), 'float32')

def _pure(fun):
  return lambda x: jax.pure_callback(fun, _SCALAR, x)

def _callback(table, x):
  return np.float32(table[0])

_CALLBACKS = {
    "method": lambda l: _pure(_Owner(l).callback),
    "partial": lambda l: _pure(functools.partial(_callback, l)),
    "item": lambda l: _pure(lambda x: np.float32(l[0])),
    "io": lambda l: lambda x: jax.experimental.io_callback(
        functools.partial(_callback, l), _SCALAR, x),
}

# Values of types that JAX does not know, or which contain themselves.

def _containing_itself():
  value = [1.]
  value.append(value)
  return value

def _deep():
  value = ()
  for _ in range(9999):
    value = value,
  return value

class _Lies:
  __class__ = property(lambda self: types.FunctionType)

  def __getattr__(self, name):
    raise KeyError(name)

_ODD_VALUES = {
    "text": lambda: np.array(["a"]), "date": lambda: np.datetime64("2020"),
    "record": lambda: np.zeros(2, [("a", 'f4')])[0],
    "long_double": lambda: np.longdouble(1), "big_endian": lambda: np.ones(
        2, '>f4'), "masked": lambda: np.ma.array([1.], mask=[True]),
    "objects": lambda: np.array([None]), "generator": lambda: iter([1.]),
    "containing_itself": _containing_itself, "deep": _deep, "lies": _Lies}


class RulesTest(jtu.JaxTestCase):

  @parameterized.product(
      kind=list(_RULES), flag=["custom_jvp3", "custom_vjp3", None])
  def test_rule_of_equal_lists(self, kind, flag):
    # They are equal at the conversion, and differ when the rule is traced.
    if hasattr(jax.config, f"jax_{flag}"):
      self.enterContext(jtu.global_config_context(**{f"jax_{flag}": True}))
    for value in VALUES:
      table = [1.]
      f = convert(_RULES[kind](table), 1.)
      table[0] = value
      self.assertEqual(gradient(f, 1.), value)

  @parameterized.parameters(*_ODD_VALUES)
  def test_odd_value(self, name):
    value, owner = _ODD_VALUES[name](), _Owner([3.])
    rules = [with_jvp(lambda p, t: (p[0], t[0] * [3., 1.][value is None])),
             lambda x: _nondiff((owner, functools.partial(max, value)), x)]
    for f in rules:
      self.assertEqual(gradient(convert(lambda x: f(x), 1.), 1.), 3.)

  def test_globals_without_a_name(self):
    variables = {}
    exec("rule = lambda p, t: (p[0], 3. * t[0])", variables)
    self.assertEqual(gradient(convert(with_jvp(variables["rule"]), 1.), 1.), 3.)


class CallbacksTest(jtu.JaxTestCase):

  @parameterized.product(kind=list(_CALLBACKS), fresh=[True, False],
                         make=[list, np.array])
  def test_callback_of_a_table(self, kind, fresh, make):
    # Unlike a rule, a callback sees what the table is when it is called.
    table = make([1.])
    for value in VALUES:
      table = make([1.]) if fresh else table
      f = convert(_CALLBACKS[kind](table), 1.)
      table[0] = value
      self.assertEqual(call(f, 1.), value)

  def test_keyword_of_a_partial(self):
    add = lambda x, y: np.float32(x + y)
    for value in VALUES:
      callback = functools.partial(add, y=0.)
      self.assertEqual(call(convert(_pure(callback), 1.), 1.), 1.)
      callback.keywords["y"] = value


class PassedAgainTest(jtu.JaxTestCase):

  @parameterized.parameters(
      ("plain", 2), ("plain", ()), ("plain", 9999), ("asarray", 2),
      ("partial", 2), ("jit", 2), ("scan", 9999), ("plain", 2, "pytree"),
      ("jit", 9999, "pytree"), ("plain", 2, "odeint"))
  def test_array_changed_in_place(self, kind, size, use="converted"):
    # Of another dtype, JAX itself remembers what it made of the array.
    buffer = np.ones(size, jnp.result_type(float))
    last = lambda x: (x * buffer).ravel()[-1]
    fun = dict(
        plain=lambda x, *_: last(x),
        asarray=lambda x, *_: (x * jnp.asarray(buffer))[-1],
        partial=functools.partial(lambda b, x, *_: (x * b)[-1], buffer),
        jit=lambda x, *_: jax.jit(lambda x: last(x))(x),
        scan=lambda x, *_: lax.scan(
            lambda x, _: (last(x), None), x, None, length=1)[0])[kind]
    for k in VALUES:
      buffer[...] = k
      if use == "odeint":
        out = (odeint(fun, 1., jnp.array([0., 1e-3]))[-1] - 1.) * 1e3
      elif use == "pytree":
        out = jax.custom_derivatives.closure_to_pytree(fun, 1.)(1.)
      else:
        out = convert(fun, 1.)(1.)
      self.assertAllClose(out, k, check_dtypes=False, rtol=1e-2)

  def test_array_without_dimensions_of_a_jitted_function(self):
    # It is a literal of the program, which closures over equal arrays share.
    arrays = [np.ones((), 'float32') for _ in range(2)]
    jitted = [jax.jit(lambda x, a=a: x * a) for a in arrays]
    converted = [convert(lambda x: f(x), 1.) for f in jitted]
    arrays[0][...] = 5.
    self.assertEqual(converted[1](1.), 1.)

  def test_code_of_a_function(self):  # as IPython replaces it
    fun = lambda x: 2. * x
    self.assertEqual(convert(fun, 1.)(1.), 2.)
    fun.__code__ = (lambda x: 3. * x).__code__
    self.assertEqual(convert(fun, 1.)(1.), 3.)

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


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
