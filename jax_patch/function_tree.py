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

"""Python functions as trees of the arrays that they captured.

Two functions made by the same code, over arrays of the same types, differ in
those arrays alone. To know that, everything else that such a function can reach
must be the same: what is in its closure, its defaults and the globals that its
code names, and so on through the functions among them. Where something is
reached that is not known to be constant, the function is not understood.
"""

from collections.abc import Callable, Hashable, Sequence
import dataclasses
import dis
import functools
import struct
import sys
import types
from typing import Any
import weakref

import numpy as np

from jax._src.basearray import Array
from jax._src.lib import _jax


class NotUnderstood(Exception):
  pass

@dataclasses.dataclass(frozen=True)
class FunctionTree:
  """A flattened function.

  Attributes:
    structure: hashable, equal for functions that differ in their leaves and
      floats alone.
    leaves: the distinct arrays that the function captured.
    floats: the Python floats that it captured.
  """
  structure: Hashable
  leaves: list[Any]
  floats: tuple[float, ...]


def flatten_function(fun: Callable) -> FunctionTree:
  """Flattens a Python function into what it captured.

  Raises:
    NotUnderstood: If it reaches something that is not known to be constant.
  """
  flattener = _Flattener()
  structure = flattener.visit(fun)
  return FunctionTree(structure, flattener.leaves, tuple(flattener.floats))

def rebuild_function(fun: Callable, leaves: Sequence[Any],
                     floats: Sequence[Any]) -> Callable:
  """Returns a function like ``fun`` that captured other leaves and floats.

  Args:
    fun: a function that was flattened.
    leaves: what takes the place of each of its leaves.
    floats: what takes the place of each of its floats.
  """
  return _Rebuilder(leaves, floats).visit(fun)


# Packages of which it is known that the functions in them are constant, and
# depend on no state: most of the standard library is not among them.
_CONSTANT = {"jax", "jaxlib", "numpy", "ml_dtypes", "abc", "bisect", "builtins",
             "cmath", "collections", "contextlib", "copy", "dataclasses",
             "enum", "fractions", "functools", "hashlib", "heapq", "itertools",
             "math", "numbers", "operator", "re", "string", "struct", "types",
             "typing", "zlib"}

def constant_name(x: Any) -> tuple[str, ...] | None:
  """Returns the name by which JAX, NumPy or such knows a module or function."""
  if isinstance(x, types.ModuleType):
    name = x.__name__
    found = sys.modules.get(name)
    path = (name,)
  else:
    name = getattr(x, "__module__", None)
    path = (name, getattr(x, "__name__", None))
    if not isinstance(name, str) or not isinstance(path[1], str):
      return None
    found = getattr(sys.modules.get(name), path[1], None)
  return path if (found is x and is_constant(name) and
                  path[-1] not in _REFLECTION) else None

def is_constant(module: str) -> bool:
  """Whether what a module defines may be taken to be constant."""
  package = module.partition(".")[0]
  # `operator` is written in C, as `_operator`.
  return (package.removeprefix("_") in _CONSTANT and
          not module.startswith("numpy.random"))

def named_global(x: Any) -> Hashable | None:
  """Returns a key of a jitted function that is a global of some module.

  It is as constant as `jit` takes it to be.
  """
  module = sys.modules.get(getattr(x, "__module__", None))
  if type(x) is _jax.PjitFunction and (
      getattr(module, x.__name__, None) is x):
    return weakref.ref(x)
  return None

def is_custom(x: Any) -> bool:
  """Whether it is a ``custom_jvp`` or ``custom_vjp`` function."""
  t = type(x)
  return (t.__name__ in ("custom_jvp", "custom_vjp") and
          t.__module__ == "jax._src.custom_derivatives")

def custom_parts(x: Any) -> list[Any]:
  """Returns what the result of such a function depends on."""
  return [getattr(x, name, None) for name in (
      "fun", "jvp", "fwd", "bwd", "nondiff_argnums", "symbolic_zeros",
      "optimize_remat")]

@functools.lru_cache(4096)
def _names(code: types.CodeType) -> tuple[str, ...] | None:
  # The globals that some code names, and attributes, which look the same. None
  # if it may reach or change anything else.
  names = dict.fromkeys(code.co_names)
  opcodes = set(code.co_code[::2])
  if opcodes & _GLOBAL_EFFECTS:
    return None
  if opcodes & _CELL_EFFECTS and any(
      i.opcode in _CELL_EFFECTS and i.argval in code.co_freevars
      for i in dis.get_instructions(code)):
    return None
  for const in code.co_consts:
    if isinstance(const, types.CodeType):
      inner = _names(const)
      if inner is None:
        return None
      names.update(dict.fromkeys(inner))
  return None if names.keys() & _REFLECTION else tuple(names)

_GLOBAL_EFFECTS = {
    dis.opmap[op] for op in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")}
_CELL_EFFECTS = {dis.opmap[op] for op in ("STORE_DEREF", "DELETE_DEREF")}

# What reaches other things than the code names.
_REFLECTION = {"globals", "locals", "vars", "eval", "exec", "__import__",
               "import_module", "open", "input", "load", "loadtxt", "fromfile",
               "genfromtxt", "memmap"}

def function_globals(fun: types.FunctionType) -> dict[str, Any]:
  """Returns the globals that a function may refer to.

  Raises:
    NotUnderstood: If it may reach or change anything else.
  """
  if fun.__name__ in _REFLECTION:
    raise NotUnderstood(fun)
  if is_constant(fun.__globals__.get("__name__", "")):
    return {}
  names = _names(fun.__code__)
  if names is None:
    raise NotUnderstood(fun)
  env = {name: fun.__globals__[name] for name in names
         if name in fun.__globals__}
  cells = [c.cell_contents for c in fun.__closure__ or ()]
  if "random" in names and any(x is np for x in [*env.values(), *cells]):
    raise NotUnderstood(fun)  # It may draw from NumPy's global generator.
  return env

class _Same:
  # Equals another of the very same object, which it does not keep alive.

  def __init__(self, x):
    try:
      self.get = weakref.ref(x)
    except TypeError:
      self.get = lambda: x

  def __eq__(self, other):
    return self.get() is not None and self.get() is other.get()

def object_state(x: Any, seen: dict[int, tuple] | None = None) -> Any:
  """Returns something that is equal until an object, or one in it, changes.

  That is what attributes, its own and those of its class, and containers hold.
  Arrays and functions are told apart by identity, arrays of NumPy, which may
  change, by value.

  Raises:
    NotUnderstood: If there is something that may change unseen, or too much.
  """
  seen = {} if seen is None else seen
  visit = lambda y: object_state(y, seen)
  t = type(x)
  if x is None or t in (bool, int, str, bytes):
    return t, x
  if t in (float, complex):
    return t, struct.pack("dd", x.real, x.imag)
  if id(x) in seen:
    return "seen", seen[id(x)][0]
  seen[id(x)] = len(seen), x  # Held, so that no other object gets its id.
  if len(seen) > _MAX_OBJECTS:
    raise NotUnderstood(x)
  if isinstance(x, np.ndarray) and x.nbytes <= _MAX_BYTES:
    return t, x.dtype, x.shape, x.tobytes()
  if isinstance(x, (Array, np.generic, np.dtype, *_IMMUTABLE)):
    return t, _Same(x)
  if isinstance(x, types.MethodType):
    return t, visit(x.__self__), visit(x.__func__)
  if isinstance(x, functools.partial):
    return t, visit(x.func), visit(x.args), visit(x.keywords)
  if isinstance(x, (tuple, list, set, frozenset)):
    return t, *map(visit, x)
  if isinstance(x, dict):
    return t, *[(visit(k), visit(v)) for k, v in x.items()]
  if not hasattr(x, "__dict__") or any(
      hasattr(c, "__slots__") for c in t.__mro__):
    raise NotUnderstood(x)
  of_class = {name: value for c in reversed(t.__mro__) if c is not object
              for name, value in vars(c).items() if name[:2] != "__"}
  return t, _Same(x), visit(x.__dict__), visit(of_class)

_MAX_OBJECTS = 10_000
_MAX_BYTES = 4096

_IMMUTABLE = (type, types.ModuleType, types.FunctionType,
              types.BuiltinFunctionType, _jax.PjitFunction, property,
              staticmethod, classmethod, range, slice)

def _is_leaf(x: Any) -> bool:
  return (isinstance(x, Array) or type(x) is np.ndarray or
          isinstance(x, np.inexact))

_EXACT = (str, bytes, type(None), types.CodeType, np.dtype, type(Ellipsis))


def _bits(x: float) -> bytes:
  return struct.pack("d", x)

class _Flattener:

  def __init__(self, parents=()):
    self.leaves = []
    self.floats = []
    self.number = {}  # of each leaf, by id
    self.parents = list(parents)

  def visit(self, x: Any) -> Hashable:
    t = type(x)
    if t is float:
      self.floats.append(x)
      return "float"
    if t is int or t is bool:
      return t, x
    if _is_leaf(x):
      if id(x) not in self.number:
        self.number[id(x)] = len(self.leaves)
        self.leaves.append(x)
      return "leaf", self.number[id(x)]
    if isinstance(x, _EXACT):
      return x
    if t is complex:
      return t, struct.pack("dd", x.real, x.imag)
    if t is tuple or t is list:
      return t, *map(self.visit, x)
    if t is dict:
      return t, *[(self.visit(k), self.visit(v)) for k, v in x.items()]
    if t is functools.partial:
      return t, *map(self.visit, (x.func, x.args, x.keywords))
    if name := constant_name(x):
      return name
    if t is types.FunctionType:
      return self.visit_function(x)
    if key := named_global(x):
      return key
    if is_custom(x) and all(x is not p for p in self.parents):
      # Kept as it is when the function is rebuilt, so it may capture no array.
      inner = _Flattener([*self.parents, x])
      key = t, *map(inner.visit, custom_parts(x)), *map(_bits, inner.floats)
      if not inner.leaves:
        return key
    raise NotUnderstood(x)

  def visit_function(self, x: types.FunctionType) -> Hashable:
    if any(x is p for p in self.parents) or x.__dict__.keys() - {"__wrapped__"}:
      raise NotUnderstood(x)
    self.parents.append(x)
    try:
      cells = [c.cell_contents for c in x.__closure__ or ()]
    except ValueError:  # empty
      raise NotUnderstood(x) from None
    key = (x.__code__, *map(self.visit, cells), self.visit(x.__defaults__),
           self.visit(x.__kwdefaults__), self.visit(function_globals(x)))
    self.parents.pop()
    return key


class _Rebuilder:
  # Goes through a function in the order in which the flattener does.

  def __init__(self, leaves, floats):
    self.leaves = leaves
    self.floats = iter(floats)
    self.number = {}

  def visit(self, x: Any) -> Any:
    t = type(x)
    if t is float:
      return next(self.floats)
    if _is_leaf(x):
      number = self.number.setdefault(id(x), len(self.number))
      return self.leaves[number]
    if t is tuple or t is list:
      return t([self.visit(y) for y in x])
    if t is dict:
      return {self.visit(k): self.visit(v) for k, v in x.items()}
    if t is functools.partial:
      func, args, keywords = map(self.visit, (x.func, x.args, x.keywords))
      return functools.partial(func, *args, **keywords)
    if t is types.FunctionType and not constant_name(x):
      return self.visit_function(x)
    return x

  def visit_function(self, x: types.FunctionType) -> types.FunctionType:
    cells = tuple(types.CellType(self.visit(c.cell_contents))
                  for c in x.__closure__ or ())
    defaults, kwdefaults = self.visit(x.__defaults__), self.visit(
        x.__kwdefaults__)
    env = {**x.__globals__, **self.visit(function_globals(x))}
    fun = types.FunctionType(x.__code__, env, x.__name__, defaults, cells)
    fun.__kwdefaults__ = kwdefaults
    fun.__module__ = x.__module__
    fun.__qualname__ = x.__qualname__
    return fun
