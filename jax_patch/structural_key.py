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

"""Keys that are equal only if two programs compute the same.

A key is a nest of tuples that compares and hashes fast. Whatever is not
understood is given a key that equals no other, or that equals only that of the
very same object: two programs may be taken for different when they are the
same, never the other way round.
"""

from collections.abc import Callable, Hashable, Sequence
import functools
import hashlib
import math
import struct
import types
from typing import Any

import numpy as np

from jax._src import core
from jax._src import linear_util as lu
from jax._src.array import ArrayImpl
from jax._src.basearray import Array
from jax._src import util
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import PyTreeDef
from jax_patch.function_tree import (
    constant_name, custom_parts, function_globals, is_custom, named_global,
    NotUnderstood)


def jaxpr_key(jaxpr: core.Jaxpr, leaf_key: Callable | None = None) -> Hashable:
  """Returns a key of a jaxpr: of what it computes from its inputs.

  Names, source locations and the identity of variables do not enter it. Linear
  in the size of the program.

  Args:
    jaxpr: a jaxpr, open or closed. Arrays that it holds enter the key by
      identity, so the key is of use as long as the jaxpr is alive.
    leaf_key: gives the key of such an array or of an opaque function.

  Returns:
    A hashable value.
  """
  leaf_key = leaf_key or array_key
  consts = getattr(jaxpr, "consts", ())
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  inputs = [*jaxpr.constvars, *jaxpr.invars]
  number: dict[core.Var, int] = {v: i for i, v in enumerate(inputs)}

  def atom_key(a):
    return _literal_key(a) if isinstance(a, core.Literal) else number[a]

  # Types of results need not enter, as abstract evaluation computes them from
  # what does.
  eqns = []
  for eqn in jaxpr.eqns:
    eqns.append((
        eqn.primitive, *[atom_key(a) for a in eqn.invars], len(eqn.outvars),
        *eqn.params, *[_key(p, leaf_key) for p in eqn.params.values()],
        eqn.ctx))
    for v in eqn.outvars:
      number[v] = len(number)
  return (len(jaxpr.constvars), tuple(v.aval for v in inputs), tuple(eqns),
          tuple(map(atom_key, jaxpr.outvars)), tuple(map(leaf_key, consts)))

def is_self_contained(jaxpr: core.Jaxpr, consts: Sequence[Any]) -> bool:
  """Whether a jaxpr and its constants refer to no arrays but small ones.

  Neither may the rules that it holds, nor may it call back into Python.
  """
  def leaf_key(x):
    key = array_key(x, max_host_bytes=_SMALL)
    if type(key) is object or key == ("opaque", id(x)):
      raise _Opaque
    return key
  try:
    for c in consts:
      leaf_key(c)
    jaxpr_key(jaxpr, leaf_key)
    return True
  except _Opaque:
    return False

class _Opaque(Exception):
  pass

def tree_key(tree: PyTreeDef) -> Hashable:
  """Returns a key of a treedef, which tells apart what Python takes for equal.

  Keys of a dictionary that are 1 and True, say.
  """
  return tree, str(tree)

def array_key(x: Any, max_host_bytes: float = math.inf) -> Hashable:
  """Returns a key of an array: its value if it is small, else its identity.

  Small arrays are most often written out in a function, and made anew each time
  that it is traced. NumPy arrays, which can be changed, enter by their present
  value, up to a number of bytes. What is more, or no array, equals nothing.
  """
  if isinstance(x, ArrayImpl) and x.nbytes <= _SMALL and (
      x.is_fully_addressable and not x.is_deleted()):
    return x.aval, x.sharding, x.committed, np.asarray(x).tobytes()
  if isinstance(x, Array):
    return "opaque", id(x)
  if _is_array(x):
    x = np.asarray(x)
    if x.nbytes > max_host_bytes or x.dtype.hasobject:
      return object()
    value = x.tobytes()
    if x.nbytes > _SMALL:
      value = hashlib.sha256(value).digest()
    return x.dtype, x.shape, value
  return object()

_SMALL = 256  # bytes

def _literal_key(literal):
  aval = literal.aval
  value = literal.val
  if isinstance(value, core.Tracer) or not hasattr(aval, "shape"):
    return "literal", id(value)
  return aval.dtype, aval.weak_type, aval.shape, np.asarray(value).tobytes()

# Types with an equality that is exact and that mixes with no other type's.
_EXACT = {str, bytes, type(None), types.CodeType, type(Ellipsis)}

def _is_array(x):
  # Of JAX, of NumPy, or of what JAX makes of these. No reference is.
  return isinstance(x, (Array, np.ndarray, np.generic)) or (
      hasattr(x, "dtype") and core.valid_jaxtype(x) and
      isinstance(core.typeof(x), core.ShapedArray))

# State of a trace and names, on which results do not depend.
_IGNORED = (lu.Store, lu.EqualStore, core.Trace, core.DebugInfo)

_MEMOIZED = pe._memoize(lambda: None).__code__

def _key(x: Any, leaf_key: Callable = array_key, parents: tuple = ()
         ) -> Hashable:
  t = type(x)
  if t in _EXACT:
    return x
  if t is int or t is bool:
    return t, x
  if t is float or t is complex:
    return t, struct.pack("dd", x.real, x.imag)
  # Sets in the order in which they are gone through, which may matter.
  if t in (tuple, list, set, frozenset) or isinstance(x, tuple) and (
      hasattr(x, "_fields") and not getattr(x, "__dict__", None)):
    return t, *[_key(y, leaf_key, parents) for y in x]
  if t is dict:
    return t, *[(_key(k, leaf_key, parents), _key(v, leaf_key, parents))
                for k, v in x.items()]
  if hasattr(x, "eqns"):
    return jaxpr_key(x, leaf_key)
  if _is_array(x):
    return leaf_key(x)
  if isinstance(x, _IGNORED):
    return t
  if isinstance(x, (util.Hashable, util.Unhashable)):
    return t, _key(x.val, leaf_key, parents)
  if isinstance(x, PyTreeDef):
    return tree_key(x)
  if isinstance(x, np.dtype):
    return x
  if name := constant_name(x):
    return name
  if isinstance(x, _FUNCTIONS) or is_custom(x):
    return _function_key(x, leaf_key, parents)
  if key := named_global(x):
    return key
  if _is_hi_primitive(t):
    state = {k: v for k, v in vars(x).items() if k != "effects"}
    return t, _key(state, leaf_key, parents), x.effects
  if t.__module__.startswith(("jax.", "jaxlib.")) and (
      t.__module__ != "jax._src.callback" and not hasattr(x, "__wrapped__")):
    # These types compare as JAX's own caches need it.
    try:
      hash(x)
      return t, x
    except Exception:
      pass
  # Types of users may have any kind of equality, and their objects may change.
  # A callback has effects on what it captured, whatever that is worth.
  return leaf_key(None)

def _is_hi_primitive(t: type) -> bool:
  # One of JAX's own, which does what its class says with what it was given.
  return constant_name(t) is not None and any(
      constant_name(c) == ("jax._src.hijax", "HiPrim") for c in t.__mro__)

_FUNCTIONS = (lu.WrappedFun, types.FunctionType, types.MethodType,
              functools.partial)

def _function_key(f: Callable, leaf_key: Callable, parents: tuple) -> Hashable:
  if any(f is p for p in parents):
    return "recursion", [f is p for p in parents].index(True)
  key = lambda x: _key(x, leaf_key, (*parents, f))
  if isinstance(f, lu.WrappedFun):
    return (lu.WrappedFun, key(f.f), key(f.params), key(f.in_type),
            *[(key(gen), key(params)) for gen, params in f.transforms])
  if isinstance(f, types.FunctionType):
    if f.__code__ is _MEMOIZED:
      # The results that it remembers are no part of what it computes.
      fn = f.__code__.co_freevars.index("fn")
      return key(f.__closure__[fn].cell_contents)
    try:
      env = function_globals(f)
      cells = [c.cell_contents for c in f.__closure__ or ()]
    except (NotUnderstood, ValueError):
      return leaf_key(None)
    attributes = {k: v for k, v in vars(f).items() if k != "__wrapped__"}
    return (f.__code__, *map(key, (f.__defaults__, f.__kwdefaults__, attributes,
                                   env)), *map(key, cells))
  if type(f) is types.MethodType:
    return types.MethodType, key(f.__func__), key(f.__self__)
  if isinstance(f, functools.partial):
    return type(f), key(f.func), key(f.args), key(f.keywords)
  return type(f), *map(key, custom_parts(f))
