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

"""Replaces JAX's functions with those of the mirrors, and restores them.

The docstring of ``jax_patch`` says what a mirror is. A ``def`` or ``class`` at
the top level of a mirror replaces the upstream definition of that name; if
upstream has none, it is added. A rule that the mirror sets on an upstream
object (``f.defvjp``) replaces the rule of that object.
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

from jax_patch._delivery import docstring
from jax_patch._delivery import stale

# The functions import JAX, and this module does not: a program may import this
# package before it sets the environment variables that JAX reads.

TESTED_JAX = ">=0.10.2,<0.13"

# Maps each mirror to its upstream module.
UPSTREAM = {
    "jax_patch.hashable_array": "jax._src.hashable_array",
    "jax_patch.custom_derivatives": "jax._src.custom_derivatives",
    "jax_patch.experimental.ode": "jax.experimental.ode",
}
# Those whose names no public module exports.
PRIVATE = {"jax._src.hashable_array"}
# A module that upstream does not have yet.
_NEW = {"jax_patch.jaxpr_key": "jax._src.jaxpr_key"}
# Defines nothing, and imports the names that `jax` itself exports.
_API = "jax_patch.api"

# The patch is refused unless these are plain functions that begin with these
# parameters.
_PARAMETERS = {
    "jax._src.custom_derivatives.closure_convert": "fun *example_args",
    "jax.experimental.ode.odeint":
        "func y0 t *args rtol atol mxstep hmax",
}

ABSENT = object()


@dataclasses.dataclass(frozen=True, eq=False)
class _Binding:
  """An attribute of JAX, its value in stock JAX, and the patch's value."""
  definition: str  # where upstream defines it: "jax._src.custom_derivatives.f"
  home: str  # where this attribute is: "jax.f"
  owner: Any  # a module, a class, or an object with rules
  name: str
  original: Any
  replacement: Any

  def current(self) -> Any:
    # getattr would also find deprecated names of `jax`, and what a class
    # inherits.
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
# The rules that each mirror sets on upstream objects.
_rules: dict[str, list[_Binding]] = {}
# The docstring of each mirrored definition, without the text of upstream's.
_own_docstrings: dict[Any, str | None] = {}
# The patch is in force while either of these is true.
_held_by_apply = False
_held_by_patched = 0


def apply() -> None:
  """Replaces JAX's functions with those of this package.

  Each function is replaced in all modules from which JAX exports it, public and
  private. A second call changes nothing. Several threads may call it.

  Call it first. A module that imported a function before
  (``from jax import closure_convert``) keeps JAX's function, and JAX keeps the
  programs that it has traced and cached.

  Raises:
    RuntimeError: the installed JAX is too old, or the patch does not fit it.
      Nothing was changed.

  Warns:
    UserWarning: this JAX is newer than those that the patch was tested with; or
      modules keep functions that they imported before. To silence the latter:
      ``warnings.filterwarnings("ignore", "imported from JAX before")``.
  """
  global _held_by_apply
  # Before taking the lock: another thread, which imports JAX, may be about to
  # take it.
  import jax  # noqa: F401
  with _lock:
    _install(warn_of_stale_names=True)
    _held_by_apply = True


def revert() -> None:
  """Undoes :func:`apply`: JAX has its own functions again.

  Without a call of :func:`apply` before, it does nothing. While a thread is in
  a :func:`patched` block, the patch stays in force until that block ends. A
  module that imported a function under the patch keeps the patch's function;
  :func:`status` lists these.

  Warns:
    UserWarning: another library has replaced a function since. Its replacement
      is kept, and all other functions are restored.
  """
  global _held_by_apply
  with _lock:
    _held_by_apply = False
    _uninstall_unless_held()


@contextlib.contextmanager
def patched() -> Iterator[None]:
  """Applies the patch in a ``with`` block, or in a decorated function.

  The patch affects the whole process, all threads included. Blocks may be
  nested, and may overlap in several threads. At the end of the last one the
  patch is reverted, unless :func:`apply` was called.

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
  """Returns whether the patch is in force, and the bindings that it makes."""
  import jax  # noqa: F401
  with _lock:
    return bool(_bindings), _bindings or _plan()


def _install(warn_of_stale_names: bool = False) -> None:
  # All or nothing: errors and warnings come before the first name is bound.
  global _bindings
  if _bindings:
    return
  plan = _plan()
  version = _jax_version()
  if not is_tested(version):
    warnings.warn(
        f"jax_patch was tested with jax{TESTED_JAX}, but this is jax {version}",
        UserWarning, stacklevel=3)
  if warn_of_stale_names and (names := stale.names(plan, is_applied=True)):
    warnings.warn(
        f"imported from JAX before jax_patch was applied: {', '.join(names)}."
        " These keep JAX's own functions. Apply jax_patch first, or import them"
        " again.", UserWarning, stacklevel=3)
  try:
    for b in plan:
      if isinstance(b.original, types.FunctionType):
        own = _own_docstrings.setdefault(b.replacement, b.replacement.__doc__)
        b.replacement.__doc__ = docstring.merge(
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
      # This may be another library's wrapper around ours. Removing it would
      # undo more than our own patch.
      foreign.append(b.home)
  _bindings = ()
  if foreign:
    warnings.warn(
        f"{', '.join(foreign)}: something else has replaced this since"
        " jax_patch was applied, and revert() leaves it in place. Until it is"
        " gone, jax_patch may refuse to be applied again.",
        UserWarning, stacklevel=3)


def _jax_version() -> str:
  return sys.modules["jax"].__version__


def _import(name: str) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except Exception as error:
    raise _refusal(
        f"{name} to import", f"{type(error).__name__}: {error}") from error


def _import_mirror(mirror: str, upstream: types.ModuleType) -> types.ModuleType:
  # Importing a mirror runs its `f.defvjp(...)`, which changes a function of
  # upstream. This removes the new rule again, and records it for _install.
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
  # jaxpr_key looks into the instances and functions that JAX's own modules
  # make. A mirror's must look as if the upstream module had made them.
  for value in vars(mirror).values():
    if isinstance(value, type) and value.__module__ == mirror.__name__:
      value.__module__ = home
  mirror.__name__ = home


def _plan() -> tuple[_Binding, ...]:
  # Raises a RuntimeError if this JAX is not as expected.
  if _release(_jax_version()) < _tested_range()[0]:
    raise RuntimeError(f"jax_patch needs jax{TESTED_JAX}, and this is jax"
                       f" {_jax_version()}. Nothing was changed.")
  older_jax = _import("jax_patch._delivery.older_jax")
  older_jax.add_modules()
  for module in _NEW:
    _import(module)
  older_jax.extend_key()
  bindings = [
      _Binding(f"{home}.{name}", f"{home}.{name}", owner, name,
               vars(owner).get(name, ABSENT), value)
      for home, owner, name, value in older_jax.missing()]
  on_jax = vars(_import(_API))
  for mirror, upstream in UPSTREAM.items():
    home = _import(upstream)
    module = _import_mirror(mirror, home)
    _import("jax_patch._delivery.older_xla").replace_in(module)
    for name in _definitions(module):
      definition = f"{upstream}.{name}"
      old, new = vars(home).get(name, ABSENT), vars(module)[name]
      _check_parameters(definition, old)
      homes = ["jax"] if name in on_jax else []
      if name[0] != "_" and upstream not in PRIVATE:
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
  for mirror, home in {**UPSTREAM, **_NEW}.items():
    _take_home(sys.modules[mirror], home)
  return tuple(bindings)


@functools.cache
def _definitions(mirror: types.ModuleType) -> list[str]:
  # A decorator can return any object, so that only the source shows which
  # names are definitions. upstream_diff reads the source, too.
  return [node.name for node in ast.parse(inspect.getsource(mirror)).body
          if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


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
      f"jax_patch needs jax{TESTED_JAX}. It cannot be applied to jax"
      f" {_jax_version()}: expected {expected}, but found {found}. Nothing was"
      " changed.")


def is_tested(version: str) -> bool:
  low, high = _tested_range()
  return low <= _release(version) < high


def _tested_range() -> list[tuple[int, ...]]:
  return [_release(bound) for bound in TESTED_JAX.split(",")]


def _release(version: str) -> tuple[int, ...]:
  # "0.12.1.dev20260801" counts as (0, 12, 1).
  return tuple(map(int, re.search(r"\d+(\.\d+)*", version)[0].split(".")))


@functools.cache
def _hide_frames() -> None:
  # JAX omits its own files from tracebacks and from the source lines that it
  # names in errors. It offers no way to unregister a file; that does no harm,
  # since no frame is from here after `revert`.
  from jax._src import source_info_util
  from jax._src import traceback_util
  package = os.path.dirname(os.path.abspath(sys.modules["jax_patch"].__file__))
  source_info_util.register_exclusion(package + os.sep)
  traceback_util.register_exclusion(package + os.sep)
