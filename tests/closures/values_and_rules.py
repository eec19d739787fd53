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

"""Captured values, states and rules, for ``earlier_calls_test.py``."""

import functools
import math
import sys
import types

import jax
from jax import lax
import numpy as np


_n = np.array([3 * 2 ** 32])
_jd = np.float64(2460000.1)
module = types.ModuleType("module_of_a_value")
module.k = 1.
module.inner = types.SimpleNamespace(k=1.)
module.sub = types.ModuleType("sub")
sys.modules[module.__name__] = module

# Each makes a function of a number that depends on a value which is not an
# array of JAX. The values are given beside it.
VALUES = {
    "int64": (lambda n: lambda x: x * (n[0] // 2 ** 32), [
        _n, _n + 2 ** 32, _n]),
    "int64_scalar": (lambda n: lambda x: x * int(n >> 40), [
        np.int64(2 ** 40), np.int64(2 ** 41), np.uint64(2 ** 63)]),
    "float64": (lambda d: lambda x: x * (d - 2460000.), [
        _jd, _jd + .1, 2460000.1, _jd]),
    "overflow": (lambda m: lambda x: x * (m[0] * m[1] / m.sum() / 5.97e24), [
        np.array([1.99e30, 5.97e24]), np.array([1.99e30, 5.98e24])]),
    "underflow": (lambda m: lambda x: x * (m * 1e200), [1e-200, 2e-200]),
    "python_int": (lambda n: lambda x: x * (n % 7), [
        2 ** 70, 2 ** 71, 5, True]),
    "python_float": (lambda k: lambda x: x * (k - 2459000.), [
        2459000.1, 2459000.2, 2459000.3]),
    "isinstance": (lambda b: lambda x: x * (
        1. if isinstance(b, np.ndarray) else 3.), [
            np.array(2.), 2., np.float64(2.), np.array(2.)]),
    "exact_type": (lambda b: lambda x: x * dict(
        int=1., bool=2., float=3.)[type(b).__name__], [1, True, 1., 1]),
    "dtype": (lambda b: lambda x: x * b.dtype.itemsize, [
        np.float32(1), np.float64(1), np.int8(1)]),
    "sign_of_zero": (lambda b: lambda x: x * math.copysign(1., b), [0., -0.]),
    "text": (lambda s: lambda x: x * len(s), ["a", "ab", b"abc", ""]),
    "branch": (lambda b: lambda x: x * 2. if b else x * 3., [
        0, 1, [], [0], None, "a", np.array(0), np.array(1)]),
    "order": (lambda d: lambda x: x * next(iter(d.values())), [
        dict(a=1., b=2.), dict(b=2., a=1.)]),
    "shape": (lambda a: lambda x: x * len(a), [np.ones(1), np.ones(2)]),
}

# Each is a pair: makes a rule's factor, which refers to a state, and what sets
# the state.
def _cell():
  k = 1.
  def change(new):
    nonlocal k
    k = new
  return lambda: k, change

def _global():
  def change(new):
    global _k
    _k = new
  return lambda: _k, change

def _item(container, index):
  return lambda: container[index], lambda k: container.__setitem__(index, k)

def _attribute(owner):
  return lambda: owner.k, lambda k: setattr(owner, "k", k)

def _helper():
  return module.k

def _inner_rule():
  get, change = _cell()
  return lambda: jax.jvp(with_jvp(get), (1.,), (1.,))[1], change

def _imported():
  def get():
    from module_of_a_value import k
    return k
  return get, functools.partial(setattr, module, "k")

def _builtin_method():
  table = {"k": 1.}
  get = table.get
  return lambda: get("k"), lambda k: table.update(k=k)

def _default():
  def get(k=1.):
    return k
  return get, lambda k: setattr(get, "__defaults__", (k,))

class _Class:
  k = 1.

class _Quantity(np.ndarray):
  k = 1.

def _nested(wrap):
  # NumPy reads the array whenever a fresh function is traced.
  get, change = _item(np.ones(999), -1)
  return lambda: wrap(lambda x: x * get())(1.), change

STATES = {
    "global": _global, "cell": _cell,
    "list": lambda: _item([1.], 0),
    "nested_list": lambda: (lambda l: (
        lambda: l[0]["k"][0], lambda k: l[0].update(k=(k,))))([{"k": (1.,)}]),
    "dict": lambda: _item({"k": 1.}, "k"),
    "small_array": lambda: _item(np.ones(2), 0),
    "large_array": lambda: _item(np.ones(9999), -1),
    "object": lambda: _attribute(types.SimpleNamespace(k=1.)),
    "class": lambda: _attribute(_Class),
    "module": lambda: (lambda: module.k,
                       functools.partial(setattr, module, "k")),
    "module_in_cell": lambda: _attribute(module),
    "submodule": lambda: (lambda: module.sub.k,
                          functools.partial(setattr, module.sub, "k")),
    "object_ofmodule": lambda: (lambda: module.inner.k,
                                 functools.partial(setattr, module.inner, "k")),
    "helper": lambda: (lambda: _helper(),
                       functools.partial(setattr, module, "k")),
    "attribute_of_function": lambda: _attribute(_helper),
    "imported": _imported,
    "default": _default,
    "builtin_method": _builtin_method,
    "attribute_of_array": lambda: _attribute(np.ones(2).view(_Quantity)),
    "inner_rule": _inner_rule,
    "jit": lambda: _nested(lambda f: lambda x: jax.jit(lambda x: f(x))(x)),
    "scan": lambda: _nested(lambda f: lambda x: lax.scan(
        lambda c, _: (f(c), None), x, None, length=1)[0]),
}

def with_jvp(get):
  f = jax.custom_jvp(lambda x: 1. * x)
  f.defjvp(lambda p, t: (1. * p[0], t[0] * get()))
  return f

def with_vjp(get):
  f = jax.custom_vjp(lambda x: 1. * x)
  f.defvjp(lambda x: (1. * x, None), lambda _, g: (g * get(),))
  return f

# What a rule may refer to although it is not like what JAX knows.
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

ODD_VALUES = {
    "text": lambda: np.array(["a"]), "date": lambda: np.datetime64("2020"),
    "record": lambda: np.zeros(2, [("a", 'f4')]),
    "long_double": lambda: np.ones(2, np.longdouble),
    "text_scalar": lambda: np.str_("a"),
    "big_endian": lambda: np.ones(2, '>f4'),
    "masked": lambda: np.ma.array([1.], mask=[True]),
    "objects": lambda: np.array([None]), "generator": lambda: iter([1.]),
    "containing_itself": _containing_itself, "deep": _deep, "lies": _Lies,
    "eqns": lambda: types.SimpleNamespace(eqns=[1]),
}
