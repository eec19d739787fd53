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

import functools
import types

import numpy as np

from jax._src import core
from jax._src import hashable_array
from jax._src import literals
from jax._src import util
from jax._src.basearray import Array
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import Partial, PyTreeDef


class JaxprKey:
  # Equal keys are one object. It holds the objects whose ids are in it.
  function = staticmethod(lambda: None)  # or a weak reference

_intern = util.weak_value_interner(lambda *parts: JaxprKey())

def jaxpr_key(jaxpr: core.Jaxpr, *rest) -> JaxprKey:
  # Names of variables and source locations do not enter. Arrays of JAX enter by
  # identity, because reading them would wait for a device.
  builder = _KeyBuilder()
  try:
    key = _intern(*builder.jaxpr(jaxpr), *map(builder.part, rest))
  except (RecursionError, TypeError):  # A part contains itself or has no hash.
    key = JaxprKey()
  key.held, key.arrays = builder.held, builder.arrays
  return key

class FrozenArray(hashable_array.HashableArray):
  # Compares bit by bit, also with an array, and hashes a sample.
  def __hash__(self):
    x, words = self.val, _words(self.val)
    return hash((x.dtype, x.shape, words[::words.size // 64 + 1].tobytes()))

  def __eq__(self, other):
    x, y = self.val, getattr(other, "val", other)
    return (isinstance(y, np.ndarray) and x.dtype == y.dtype
            and x.shape == y.shape and np.array_equal(_words(x), _words(y)))

def _words(x):
  x = np.ascontiguousarray(x).ravel().view(np.uint8)
  return x if x.size % 8 else x.view(np.uint64)

_SCALARS = {float, complex, *literals.typed_scalar_types,
            *np.sctypeDict.values()} - {np.void}
# The attributes that determine what JAX makes anew in each trace, by its class.
_ATTRIBUTES = {
    "AbstractRef": ("inner_aval", "memory_space", "kind"),
    "ClosedRule": ("rule",), "FrozenDict": ("_d",),
    "DynamicJaxprTrace": (), "EqualStore": (), "Store": (),
    "HiPrim": ("in_avals_flat", "in_tree", "params"),
    "VJPHiPrimitive": ("in_avals_flat", "in_tree", "params"),
    "Traced": ("jaxpr", "in_tree", "out_tree", "_consts"),
    "WrappedFun": ("f", "transforms", "params", "in_type")}
_MEMOIZED = pe._memoize(lambda: None).__code__

class _KeyBuilder:

  def __init__(self):
    self.held = []
    self.arrays = []  # of NumPy, in nested programs, each with its copy
    self.keys = {}  # by jaxpr or function

  def identity(self, x):
    self.held.append(x)
    return id(x)

  def part(self, x):
    # What JAX holds. It does not change the containers that it made.
    t = type(x)
    if t in (int, bool, str, bytes) or x is None:  # Most are, so this is first.
      return t, x
    if t in (tuple, list, set, frozenset, dict):
      return t, *map(self.part, x.items() if t is dict else x)
    if t is PyTreeDef:
      # The metadata belongs to its class, but for the list of keys of a dict.
      data = x.node_data()
      known = self.part if data and data[0] is dict else self.value
      return known(data), self.part(x.children())
    if isinstance(x, core.Tracer):  # Its type is all that is used later.
      return x.aval
    if isinstance(x, np.ndarray):
      self.arrays.append((x, copy := FrozenArray(x)))
      return self.identity(x), copy
    return self.value(x)

  def value(self, x):
    # What a user may hold. Only what cannot change is known by its value.
    t = type(x)
    if t in (int, bool, str, bytes) or x is None:
      return t, x
    if t in _SCALARS:
      return t, getattr(x, "dtype", None), np.asarray(x).tobytes()
    if t in (functools.partial, Partial):
      return t, *map(self.value, (x.func, x.args, *x.keywords.items()))
    if t in (types.MethodType, types.BuiltinMethodType):
      return self.value((getattr(x, "__func__", x.__qualname__), x.__self__))
    if t in (util.Hashable, util.Unhashable):
      return self.value(x.val)
    if issubclass(t, tuple) and not hasattr(x, "__dict__"):
      return self.identity(t), *map(self.value, tuple.__iter__(x))
    is_function = t is types.FunctionType
    home = x.__globals__.get("__name__") if is_function else t.__module__
    if isinstance(x, Array) or str(home).partition(".")[0] != "jax":
      return self.identity(x)
    if is_function or isinstance(x, core.Jaxpr):
      if x not in self.keys:
        parts = self.function(x) if is_function else self.jaxpr(x)
        self.keys[x] = _intern(*parts)
      return self.keys[x]
    names = getattr(t, "__dataclass_fields__", None)
    for base in t.__mro__:
      names = _ATTRIBUTES.get(base.__name__, names)
    if names is not None:
      return t, *[self.part(getattr(x, n)) for n in names]
    return self.identity(x) if t.__eq__ is object.__eq__ else x

  def function(self, f):
    cells = [c.cell_contents for c in f.__closure__ or ()]
    if f.__code__ is _MEMOIZED:  # What it remembers does not matter.
      return self.part(cells[f.__code__.co_freevars.index("fn")]),
    return map(self.part, (f.__code__, f.__defaults__, f.__kwdefaults__, cells))

  def jaxpr(self, jaxpr):
    number = {}

    def atom(a):
      if isinstance(a, core.Literal):
        if isinstance(a.val, np.ndarray):  # Its owner can change it.
          self.arrays.append((a.val, FrozenArray(a.val)))
          a.val = a.val[()]
        return a.aval, self.part(a.val)
      if a in number:
        return number[a]
      number[a] = len(number)
      # The equality of references ignores their kind.
      return a.aval if type(a.aval) is core.ShapedArray else self.part(a.aval)

    parts = [*map(self.part, jaxpr.consts), len(jaxpr.constvars),
             *map(atom, [*jaxpr.constvars, *jaxpr.invars])]
    for e in jaxpr.eqns:
      parts += (len(e.invars), *map(atom, e.invars), e.primitive, e.ctx,
                *e.params, *map(self.part, e.params.values()),
                *map(atom, e.outvars))
    return *parts, len(jaxpr.outvars), *map(atom, jaxpr.outvars)
