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

"""Keys of jaxprs, which are equal only if the programs compute the same."""

from collections.abc import Hashable
import functools
import hashlib
import types
import weakref

import numpy as np

from jax._src import core
from jax._src import linear_util as lu
from jax._src import literals
from jax._src import util
from jax._src.basearray import Array
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import PyTreeDef


def closure_key(jaxpr, consts, *rest) -> "Key":
  # Names of variables and source locations do not enter. NumPy arrays among the
  # constants enter by value, so nothing else may refer to them. Arrays of JAX
  # enter by identity, because reading them would wait for a device.
  builder = _KeyBuilder()
  parts = *builder.jaxpr(jaxpr), *map(builder.const, (*rest, *consts))
  return _intern(closure_key, *parts, held=builder.held)

class Key:
  # Equal keys are one object. `held` has the objects whose ids are in `parts`.
  __slots__ = ["parts", "held", "hash", "__weakref__"]

  def __init__(self, parts, held):
    self.parts, self.held, self.hash = parts, held, hash(parts)

  def __hash__(self):
    return self.hash

  def __eq__(self, other):
    try:
      return isinstance(other, Key) and self.parts == other.parts
    except ValueError:  # What treedefs hold may compare to more than a bool.
      return False

# Keeps nothing alive: a program that refers to its own key can be collected.
_keys: weakref.WeakKeyDictionary[Key, weakref.ref] = weakref.WeakKeyDictionary()

def _intern(*parts: Hashable, held=()) -> Key:
  key = Key(parts, held)
  # `setdefault` is atomic. What the value refers to may be gone by now.
  return _keys.setdefault(key, weakref.ref(key))() or _intern(*parts, held=held)

_BY_VALUE = {int, bool, str, bytes, type(None), type(Ellipsis)}
_BY_BITS = (float, complex, np.generic, literals.TypedInt)
_NUMPY_ARRAYS = (np.ndarray, literals.TypedNdArray)
_BY_IDENTITY = Array, type, types.CodeType, np.dtype
_BY_TYPE = (lu.Store, lu.EqualStore, pe.DynamicJaxprTrace, core.DebugInfo)
_PARTS = {
    dict: lambda x: [*x, *x.values()],
    types.MethodType: lambda f: (f.__func__, f.__self__),
    functools.partial: lambda f: (f.func, f.args, f.keywords),
    **dict.fromkeys((util.Hashable, util.Unhashable), lambda x: x.val),
    lu.WrappedFun: lambda f: (f.f, f.transforms, f.params, f.in_type),
}
_MEMOIZED = pe._memoize(lambda: None).__code__

class _KeyBuilder:

  def __init__(self):
    self.held = []
    self.keys = {}  # of jaxprs and functions, by id, beside what has the id

  def identity(self, x) -> Hashable:
    self.held.append(x)
    return "id", id(x)

  def const(self, x) -> Hashable:
    return _bits(x) if isinstance(x, _NUMPY_ARRAYS) else self.param(x)

  def param(self, x) -> Hashable:
    # A rule that a user wrote may depend on anything. JAX makes the parameter
    # that has it anew whenever it traces the function with that rule.
    try:
      return self.value(x)
    except TypeError:  # What it holds is unknown or unhashable.
      return self.identity(x)

  def value(self, x) -> Hashable:
    t = type(x)
    if t in _BY_VALUE:
      return t, x
    if isinstance(x, _BY_BITS):
      return _bits(x)
    if isinstance(x, _NUMPY_ARRAYS):  # Can change before the compilation.
      return self.identity(x), _bits(x)
    if t in _PARTS:
      return t, self.value(_PARTS[t](x))
    if t in (tuple, list, set, frozenset) or isinstance(x, tuple) and (
        hasattr(t, "_fields") and not getattr(x, "__dict__", None)):
      return t, *map(self.value, x)
    if isinstance(x, PyTreeDef):
      return x, str(x)  # As equality takes 1 for True.
    if isinstance(x, _BY_IDENTITY) or t is object:
      return self.identity(x)
    if isinstance(x, _BY_TYPE):
      return t
    is_function = isinstance(x, types.FunctionType)
    module = x.__globals__.get("__name__") if is_function else t.__module__
    if str(module).partition(".")[0] not in ("jax", "jaxlib"):
      raise TypeError
    if is_function:
      return self.once(x, self.function)
    if hasattr(x, "eqns"):
      return self.once(x, self.jaxpr)
    is_hijax = hasattr(x, "in_avals") and hasattr(x, "params")
    names = getattr(t, "__dataclass_fields__", (
        is_hijax and ("in_avals", "params")))
    if names:
      return t, *[self.value(getattr(x, n)) for n in names]
    return self.identity(x) if t.__eq__ is object.__eq__ else (t, x, hash(x))

  def once(self, x, make):
    if id(x) not in self.keys:
      self.keys[id(x)] = x, None
      self.keys[id(x)] = x, _intern(*make(x))
    if (key := self.keys[id(x)][1]) is None:
      raise TypeError  # It refers to itself, or has no key.
    return key

  def jaxpr(self, jaxpr):
    consts = getattr(jaxpr, "consts", ())  # An open one has none.
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    invars = [*jaxpr.constvars, *jaxpr.invars]
    number = {v: i for i, v in enumerate(invars)}
    parts = [len(jaxpr.constvars), len(invars), *[v.aval for v in invars],
             *map(self.param, consts)]

    def add_atoms(atoms):
      parts.append(len(atoms))
      for a in atoms:
        if isinstance(a, core.Literal):
          parts.extend((a.aval, self.const(a.val)))
        else:
          parts.append(number[a])

    for eqn in jaxpr.eqns:
      add_atoms(eqn.invars)
      parts += eqn.primitive, eqn.ctx, len(eqn.params)
      for name, param in eqn.params.items():
        parts += name, self.param(param)
      for v in eqn.outvars:
        number[v] = len(number)
        parts.append(v.aval)
    add_atoms(jaxpr.outvars)
    return parts

  def function(self, f):
    cells = [c.cell_contents for c in f.__closure__ or ()]
    if f.__code__ is _MEMOIZED:  # What it remembers does not matter.
      return self.value(cells[f.__code__.co_freevars.index("fn")]),
    return map(self.value, (
        f.__code__, f.__defaults__, f.__kwdefaults__, cells))

def _bits(x) -> Hashable:
  array = np.asarray(x)
  if array.dtype.hasobject:
    raise TypeError
  return (type(x), getattr(x, "dtype", None), array.shape,
          hashlib.sha256(array.tobytes()).digest())
