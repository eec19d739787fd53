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

"""Which live object each mirrored name replaces, and the saved originals.

A mirror is a file here that stands for an upstream file. A definition in it,
that is a ``def`` or a ``class`` at top level, replaces the upstream one of that
name, or is added where upstream has none. If upstream has a class of that name,
its methods are replaced one by one. A rule that the mirror sets on an upstream
object (``f.defvjp``) replaces the one that was set there.
"""

import ast
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
import threading
import types
from typing import Any
import warnings

from jax_patch import _docstring

# JAX is imported by the functions and not here, so that a program may import
# this package before it sets the environment variables that JAX reads.

TESTED_JAX = ">=0.10.2,<0.13"

_UPSTREAM = {
    "jax_patch.custom_derivatives": "jax._src.custom_derivatives",
    "jax_patch.experimental.ode": "jax.experimental.ode",
}
# A file that the diff adds.
_NEW = {"jax_patch.jaxpr_key": "jax._src.jaxpr_key"}
# Has no definitions: it lists the names that appear on `jax` itself.
_API = "jax_patch.api"

# What the patch takes for granted: the first parameters of plain functions.
_PARAMETERS = {
    "jax._src.custom_derivatives.closure_convert": "fun *example_args",
    "jax.experimental.ode.odeint":
        "func y0 t *args rtol atol mxstep hmax",
}

ABSENT = object()


@dataclasses.dataclass(frozen=True, eq=False)
class _Binding:
  """One name in one home: what was there, and what the patch puts there."""
  definition: str  # the upstream name, "jax._src.custom_derivatives.f"
  home: str  # where this binding is, "jax.f"
  owner: Any  # a module, a class whose method this is, an object with rules
  name: str
  original: Any
  replacement: Any

  def current(self) -> Any:
    # Not getattr: `jax` answers for deprecated names, classes for their bases.
    return vars(self.owner).get(self.name, ABSENT)

  def bind(self, value: Any) -> None:
    if self.current() is value:
      return
    if value is ABSENT:
      delattr(self.owner, self.name)
    else:
      setattr(self.owner, self.name, value)

  def state(self) -> str:
    current = self.current()
    if current is self.replacement:
      return "added" if self.original is ABSENT else "patched"
    if current is self.original:
      return "absent" if self.original is ABSENT else "stock"
    return "rebound by something else"


_lock = threading.RLock()
_bindings: tuple[_Binding, ...] = ()  # empty while the patch is off
# For each mirror, the attributes that it sets on upstream objects.
_rules: dict[str, list[_Binding]] = {}
# Of each definition of a mirror what it adds to the docstring of upstream's.
_own_docstrings: dict[Any, str | None] = {}
# The patch is in force while anything holds it.
_held_by_apply = False
_held_by_patched = 0


def apply() -> None:
  """Puts this package's functions in the place of JAX's own.

  Every name is rebound in each module that JAX exports it from, public or
  private: ``jax.closure_convert`` is ``jax.custom_derivatives.closure_convert``
  before and after. Calling it again changes nothing, and threads may race it.
  Modules that took a name by value before (``from jax import closure_convert``)
  keep what they took, and so do functions that JAX has traced and cached
  before: call this first. :func:`status` lists the former.

  Raises:
    RuntimeError: the installed JAX does not look as the patch expects it to.
      Nothing has been changed then.

  Warns:
    UserWarning: the version of JAX is one that the patch was not tested with.
  """
  global _held_by_apply
  # Before the lock is taken: another thread may be importing JAX, and be about
  # to take the lock.
  import jax  # noqa: F401
  with _lock:
    _install()
    _held_by_apply = True


def revert() -> None:
  """Undoes :func:`apply`: the exact original objects are back in their places.

  Does nothing where :func:`apply` was not called. Inside of a :func:`patched`
  block, in whatever thread, the patch stays in force until that block ends.

  Warns:
    UserWarning: something else has rebound a patched name in the meantime. Its
      object stays where it is, and all other names are restored.
  """
  global _held_by_apply
  with _lock:
    _held_by_apply = False
    _uninstall_unless_held()


@contextlib.contextmanager
def patched() -> Iterator[None]:
  """Has the patch in force in a ``with`` block, or in a decorated function.

  Blocks may be nested, overlap in several threads, and be entered when
  :func:`apply` was called already: the patch is process-wide, and goes when the
  last block ends, unless :func:`apply` still asks for it.

  Raises:
    RuntimeError: as :func:`apply` does.
  """
  global _held_by_patched
  import jax  # noqa: F401
  with _lock:
    _install()
    _held_by_patched += 1
  try:
    yield
  finally:
    with _lock:
      _held_by_patched -= 1
      _uninstall_unless_held()


def survey() -> tuple[bool, tuple[_Binding, ...]]:
  """Returns whether the patch is in force, and what it rebinds or would."""
  import jax  # noqa: F401
  with _lock:
    return bool(_bindings), _bindings or _plan()


def _install() -> None:
  # All or nothing: whatever can be refused is refused before the first rebind.
  global _bindings
  if _bindings:
    return
  plan = _plan()
  version = _jax_version()
  if not is_tested(version):
    warnings.warn(
        f"jax_patch was tested with jax{TESTED_JAX}, but this is jax {version}",
        UserWarning, stacklevel=3)
  try:
    for b in plan:
      if isinstance(b.original, types.FunctionType):
        own = _own_docstrings.setdefault(b.replacement, b.replacement.__doc__)
        b.replacement.__doc__ = _docstring.merge(
            b.original.__doc__ or "", own or "")
      b.bind(b.replacement)
    _hide_frames()
  except BaseException:
    for b in plan:
      b.bind(b.original)
    raise
  _bindings = plan


def _uninstall_unless_held() -> None:
  global _bindings
  if _held_by_apply or _held_by_patched:
    return
  foreign = []
  for b in _bindings:
    if b.current() is b.replacement:
      b.bind(b.original)
    elif b.current() is not b.original:
      # Somebody's wrapper, perhaps around ours: taking it off could undo more
      # than was asked for, and would surprise the one who put it on.
      foreign.append(b.home)
  _bindings = ()
  if foreign:
    warnings.warn(
        f"{', '.join(foreign)}: rebound by something else since jax_patch was"
        " applied, and left as found. jax_patch may refuse to be applied again"
        " while that is so.", UserWarning, stacklevel=3)


def _jax_version() -> str:
  return sys.modules["jax"].__version__


def _import(name: str) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except Exception as error:
    raise _refusal(
        f"{name} to import", f"{type(error).__name__}: {error}") from error


def _import_mirror(mirror: str, upstream: types.ModuleType) -> types.ModuleType:
  # A mirror may set a rule on a function of upstream's, with `f.defvjp(...)` at
  # top level, and does so as it is imported. Such a rule belongs to the patch:
  # it is taken back here, and set when the patch is applied.
  if sys.modules.get(mirror) is not None:
    return sys.modules[mirror]
  before = [(f"{upstream.__name__}.{name}", value, dict(vars(value)))
            for name, value in vars(upstream).items()
            if getattr(value, "__module__", None) == upstream.__name__
            and hasattr(value, "__dict__") and not isinstance(value, type)]
  rules = []
  try:
    module = _import(mirror)
  finally:
    for definition, value, old in before:
      new = dict(vars(value))
      rules += [
          _Binding(definition, f"{definition}.{attr}", value, attr,
                   old.get(attr, ABSENT), new.get(attr, ABSENT))
          for attr in sorted(old.keys() | new.keys())
          if old.get(attr, ABSENT) is not new.get(attr, ABSENT)]
    for b in rules:
      b.bind(b.original)
  _rules[mirror] = rules
  return module


def _take_home(mirror: types.ModuleType, home: str) -> None:
  # Keys of jaxprs look through what JAX makes: instances of its classes, and
  # functions that its functions define. A mirror makes the same.
  for value in vars(mirror).values():
    if isinstance(value, type) and value.__module__ == mirror.__name__:
      value.__module__ = home
  mirror.__name__ = home


def _plan() -> tuple[_Binding, ...]:
  # Returns all that there is to rebind, or raises a RuntimeError.
  older_jax = _import("jax_patch._older_jax")
  older_jax.add_modules()
  older_jax.import_key()
  bindings = [
      _Binding(f"{home}.{name}", f"{home}.{name}", owner, name, ABSENT, value)
      for home, owner, name, value in older_jax.missing()]
  on_jax = vars(_import(_API))
  for mirror, upstream in _UPSTREAM.items():
    home = _import(upstream)
    module = _import_mirror(mirror, home)
    _import("jax_patch._older_xla").replace_in(module)
    for name in _definitions(module):
      definition = f"{upstream}.{name}"
      old, new = vars(home).get(name, ABSENT), vars(module)[name]
      _check_parameters(definition, old)
      if isinstance(old, type) and isinstance(new, type):
        bindings += [
            _Binding(definition, f"{definition}.{attr}", old,
                     attr, vars(old).get(attr, ABSENT), value)
            for attr, value in vars(new).items() if _is_method(value)]
        continue
      homes = ["jax"] if name in on_jax else []
      if name[0] != "_":
        homes.append(upstream.replace("._src", ""))  # the public module
      for h in dict.fromkeys([*homes, upstream]):
        owner = _import(h)
        found = vars(owner).get(name, ABSENT)
        if found is not old:
          raise _refusal(f"{h}.{name} to be {_show(old, definition)}",
                         _show(found, f"{h}.{name}"))
        bindings.append(
            _Binding(definition, f"{h}.{name}", owner, name, old, new))
    bindings += _rules.get(mirror, [])
  for mirror, home in {**_UPSTREAM, **_NEW}.items():
    _take_home(sys.modules[mirror], home)
  return tuple(bindings)


@functools.cache
def _definitions(mirror: types.ModuleType) -> list[str]:
  # Read off its text, as the diff is: a decorator may return any object.
  return [node.name for node in ast.parse(inspect.getsource(mirror)).body
          if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _is_method(value: Any) -> bool:
  return isinstance(
      value, (types.FunctionType, staticmethod, classmethod, property))


def _check_parameters(definition: str, fun: Any) -> None:
  expected = _PARAMETERS.get(definition, "").split()
  if not expected:
    return
  found = [_show(fun, "the name")]
  if isinstance(fun, types.FunctionType):
    stars = {inspect.Parameter.VAR_POSITIONAL: "*",
             inspect.Parameter.VAR_KEYWORD: "**"}
    found = [stars.get(p.kind, "") + p.name
             for p in inspect.signature(fun).parameters.values()]
  if found[:len(expected)] != expected:
    raise _refusal(f"{definition} to be a plain function of "
                   f"({', '.join(expected)})", ", ".join(found))


def _show(value: Any, name: str) -> str:
  if value is ABSENT:
    return f"{name} (missing)"
  return f"{value!r} of {getattr(value, '__module__', None)}"


def _refusal(expected: str, found: str) -> RuntimeError:
  return RuntimeError(
      f"jax_patch cannot be applied to jax {_jax_version()}: expected"
      f" {expected}, but found {found}. Nothing was changed."
      f" The tested range is jax{TESTED_JAX}.")


def is_tested(version: str) -> bool:
  low, high = (_release(bound) for bound in TESTED_JAX.split(","))
  return low <= _release(version) < high


def _release(version: str) -> tuple[int, ...]:
  # "0.12.1.dev20260801" is taken for (0, 12, 1).
  return tuple(map(int, re.search(r"\d+(\.\d+)*", version)[0].split(".")))


@functools.cache
def _hide_frames() -> None:
  # JAX leaves its own files out of tracebacks and of the places that it names
  # in errors. There is no way to take a file back in, nor a need: after
  # `revert` no frame is from here.
  from jax._src import source_info_util
  from jax._src import traceback_util
  here = os.path.dirname(os.path.abspath(__file__)) + os.sep
  source_info_util.register_exclusion(here)
  traceback_util.register_exclusion(here)
