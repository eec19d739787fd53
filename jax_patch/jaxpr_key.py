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

"""Keys of jaxprs, which are equal only if the programs compute the same.

Arrays of JAX enter by identity: reading them would wait for a device."""

import functools
import types

import numpy as np

from jax._src import core
from jax._src import literals
from jax._src import util
from jax._src.basearray import Array
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import Partial, PyTreeDef
from jax_patch.hashable_array import FrozenArray


class JaxprKey:
  # Equal keys are one object. It holds the objects whose ids are in it.
  function = staticmethod(lambda: None)  # or a weak reference

_intern = util.weak_value_interner(lambda *parts: JaxprKey())

def jaxpr_key(jaxpr: core.Jaxpr, *rest) -> JaxprKey:
  builder = _KeyBuilder()
  try:
    key = _intern(*builder.jaxpr(jaxpr), *map(builder.part, rest))
  except (RecursionError, TypeError):  # A part contains itself or has no hash.
    key = JaxprKey()
  key.held, key.arrays = builder.held, builder.arrays
  return key

_SCALARS = {float, complex, *literals.typed_scalar_types,
            *np.sctypeDict.values()} - {np.void}
# The attributes that determine what JAX makes anew in each trace, by its class.
_ATTRIBUTES = {
    "AbstractRef": ("inner_aval", "memory_space", "kind"),  # == ignores kind
    "ClosedRule": ("rule",), "FrozenDict": ("_d",),
    "DynamicJaxprTrace": (), "EqualStore": (), "Store": (),
    "Hashable": ("val",), "Unhashable": ("val",),
    "HiPrim": ("in_avals_flat", "in_tree", "params"),
    "VJPHiPrimitive": ("in_avals_flat", "in_tree", "params"),
    "Traced": ("jaxpr", "in_tree", "out_tree", "_consts"),
    "WrappedFun": ("f", "transforms", "params", "in_type")}

class _KeyBuilder:

  def __init__(self):
    self.held, self.keys = [], {}  # the keys of nested jaxprs and functions
    self.arrays = []  # of NumPy, in nested programs, each with its copy

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
      data = x.node_data()  # JAX makes only the list of the keys of a dict.
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
    if t in (functools.partial, Partial) and not x.keywords:
      return t, *map(self.value, (x.func, x.args))
    if t in (types.MethodType, types.BuiltinMethodType):
      return self.value((getattr(x, "__func__", x.__qualname__), x.__self__))
    if issubclass(t, tuple) and not hasattr(x, "__dict__"):
      return self.identity(t), *map(self.value, tuple.__iter__(x))
    is_function = t is types.FunctionType
    home = x.__globals__.get("__name__") if is_function else t.__module__
    if isinstance(x, Array) or str(home).partition(".")[0] != "jax":
      return self.identity(x)
    if is_function or isinstance(x, core.Jaxpr):
      parts = self.function if is_function else self.jaxpr
      return self.keys.get(x) or self.keys.setdefault(x, _intern(*parts(x)))
    names = getattr(t, "__dataclass_fields__", None)
    for base in t.__mro__:
      names = _ATTRIBUTES.get(base.__name__, names)
    if names is not None:  # What wraps a user's value has it as "val".
      known = self.value if "val" in names else self.part
      return t, *[known(getattr(x, n)) for n in names]
    return self.identity(x) if t.__eq__ is object.__eq__ else x

  def function(self, f):
    cells = [c.cell_contents for c in f.__closure__ or ()]
    if f.__code__ in pe._memoize.__code__.co_consts:  # Its memo is left out.
      return self.part(cells[f.__code__.co_freevars.index("fn")]),
    return map(self.part, (f.__code__, f.__defaults__, f.__kwdefaults__, cells))

  def jaxpr(self, jaxpr):
    number = {}

    def read(a):
      if isinstance(a, core.Var):
        return number[a]
      if isinstance(a.val, np.ndarray):  # Its owner can change it.
        self.arrays.append((a.val, copy := FrozenArray(a.val)))
        a.val = copy.val
        return a.aval, a.val.dtype, a.val.tobytes()
      return a.aval, self.part(a.val)

    def write(v):
      number[v] = len(number)
      return v.aval if type(v.aval) is core.ShapedArray else self.part(v.aval)

    parts = [*map(self.part, jaxpr.consts), len(jaxpr.constvars),
             *map(write, [*jaxpr.constvars, *jaxpr.invars])]
    for e in jaxpr.eqns:
      parts += [len(e.invars), *map(read, e.invars), e.primitive, e.ctx,
                *e.params, *map(self.part, e.params.values()),
                *map(write, e.outvars)]
    return *parts, len(jaxpr.outvars), *map(read, jaxpr.outvars)
