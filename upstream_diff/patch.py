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

"""Every file that the patch changes or adds in an upstream tree."""

import ast
from collections.abc import Callable
import pathlib
import re

import jax_patch
from jax_patch import _patch
from upstream_diff import bazel
from upstream_diff import documents
from upstream_diff.base import Base, BaseError, bound_names, parse
from upstream_diff.imports import (
    add_imports, Import, imports_of, mirror_imports, remove_imports,
    unused_imports, upstream_module)
from upstream_diff.merge import (
    cut_out, global_names, key_of, merge, statements, tree_of)
from upstream_diff.series import PATCHES
from upstream_diff.stage import mirror_at, name_of

_MIRROR = pathlib.Path(jax_patch.__file__).parent
_TESTS = _MIRROR.parent / "tests"

# What upstream must have, for the patch to replace or to use.
_EXPECTED = {
    "jax/_src/custom_derivatives.py": ["closure_convert"],
    "jax/custom_derivatives.py": ["closure_convert"],
    "jax/__init__.py": ["closure_convert"],
    "jax/experimental/ode.py": [
        "odeint", "_odeint_wrapper", "_odeint", "_odeint_fwd", "_odeint_rev"],
}
_EXPECTED_TESTS = {
    "tests/custom_api_test.py": ["CustomJVPTest", "CustomVJPTest"],
    "tests/ode_test.py": ["ODETest"],
}

# The whole as one commit.
SUBJECT = "Complete jax.closure_convert, and let odeint share it"
BODY = "\n\n".join(f"{p.subject}: {p.body}" for p in PATCHES)

# Of each file, what is there and what the patch makes of it.
Files = dict[str, tuple[str | None, str]]


def changed_files(base: Base) -> Files:
  """Returns what all patches make of the files of a tree.

  Raises:
    BaseError: if the tree is not as expected, or has the patches already.
  """
  files: Files = {}
  for changed in series_files(base).values():
    for path, (before, after) in changed.items():
      files[path] = files.get(path, (before, after))[0], after
  return dict(sorted(files.items()))


def series_files(base: Base) -> dict[int, Files]:
  """Returns what each patch that the tree does not have makes of it.

  The patches are counted from one. What is there before a patch is what the one
  before it has made.

  Raises:
    BaseError: if the tree is not as expected, or has the patches already.
  """
  patches = {}
  for number in range(_first_missing(base), len(PATCHES) + 1):
    patches[number] = _changed_by(base, number)
    base = base.changed(patches[number])
  base.check_clean(sorted({p for files in patches.values() for p in files}))
  return patches


def _first_missing(base: Base) -> int:
  # Which patch, counted from one, is the first that the tree does not have.
  expected = _EXPECTED | ({} if base.package_only else _EXPECTED_TESTS)
  for path, names in expected.items():
    base.check_defines(path, names)
  there = max((k for k in range(1, len(PATCHES) + 1) if _is_there(base, k)),
              default=0)
  if there == len(PATCHES):
    raise BaseError(f"This tree has the patch already, in {base.root}.")
  for path, (_, mirror) in _MIRRORS.items():
    old, new = (
        {name_of(s) for s in statements(text or "", tree_of(text or "").body)
         if hasattr(s.node, "name")} for text in (
             mirror_at(path, mirror.read_text(encoding="utf-8"), k)
             for k in (there, len(PATCHES))))
    bound = bound_names(parse(base.read(path), path))
    if found := sorted(bound & new - old - {*_EXPECTED[path]}):
      raise BaseError(
          f"{path} has {', '.join(found)}, but otherwise than the patch "
          f"\"{PATCHES[there].subject}\", in {base.root}. If that was merged "
          "with changes, take them over into the mirror first.")
  return there + 1


def _is_there(base: Base, stage: int) -> bool:
  # Whether the modules have all definitions as they are at this stage.
  for path, (_, mirror) in _MIRRORS.items():
    text = mirror_at(path, mirror.read_text(encoding="utf-8"), stage)
    base_text = base.read(path)
    if text is not None and merge(base_text, text)[0] != base_text:
      return False
  return True


def _changed_by(base: Base, number: int) -> Files:
  files: Files = {}
  if not base.package_only:
    files = _tests(base, number)
    base = base.changed(files)
  files |= _modules(base, number)
  if not base.package_only:
    files |= bazel.build_files(base, files)
    files |= documents.documents(base, PATCHES[number - 1], files)
  if traces := [path for path, (_, text) in files.items()
                if re.search(r"jax_patch|apply_patch", text)]:
    raise AssertionError(f"this project shows in {traces}")
  return dict(sorted((path, texts) for path, texts in files.items()
                     if texts[0] != texts[1]))


def _modules(base: Base, stage: int) -> Files:
  files: Files = {}
  for path, (module, mirror) in _MIRRORS.items():
    text = mirror_at(path, mirror.read_text(encoding="utf-8"), stage)
    if text is None:
      continue
    old = base.read(path)
    files[path] = old, merge_file(
        path, old, text, module, lambda name: base.uses(module, name, path))
    files |= _export(base, path, module, text)
    for i in imports_of(text).values():
      # Modules of the delivery start with an underscore.
      if re.match(r"jax_patch\.(?!_)", i.module or "") and (
          i.name in global_names(text)):
        files |= _new_file(base, path_of(upstream_module(i.module)),
                           _MIRROR / mirror_path(i.module))
  for before, after in files.values():
    old = imports_of(before or "").values()
    for i in imports_of(after).values():
      if i not in old and (i.module or "").partition(".")[0] == "jax" and not (
          {path_of(i.module), path_of(f"{i.module}.{i.attr}")} & files.keys()):
        base.check_importable(i.module, i.attr)
  return files


def path_of(module: str) -> str:
  return module.replace(".", "/") + ".py"


def mirror_path(module: str) -> str:
  return path_of(module.removeprefix("jax_patch."))


# For each upstream file, the module and its mirror.
_MIRRORS = {path_of(upstream): (upstream, _MIRROR / mirror_path(mirror))
            for mirror, upstream in _patch._UPSTREAM.items()}


def _new_file(base: Base, path: str, mirror: pathlib.Path) -> Files:
  # The imports of this project become upstream's, and go to their places.
  text = mirror.read_text(encoding="utf-8")
  ours = {name for name, i in imports_of(text).items()
          if (i.module or i.attr).partition(".")[0] in ("jax_patch",
                                                        "apply_patch")}
  found = mirror_imports(text, None)
  new = add_imports(remove_imports(text, ours),
                    [found[name] for name in found if name in ours])
  return {path: (base.read(path) if base.exists(path) else None, new)}


def merge_file(path: str, text: str, mirror: str, module: str | None,
               uses: Callable[[str], bool]) -> str:
  """Merges a mirror into the file that it stands for, with its imports.

  Args:
    path: of the file.
    text: the file.
    mirror: the mirror.
    module: the upstream module that the file is, or None for a test.
    uses: says whether other files use a name of this one.
  """
  merged, _ = merge(text, mirror)
  found = mirror_imports(mirror, module)
  bound = imports_of(text)
  for name, i in found.items():
    if name in bound and bound[name].binds != i.binds:
      raise BaseError(f"{path} has `{bound[name]}`, and the patch has `{i}`.")
  if module is not None:
    merged = _remove_dead(text, merged, uses)
  merged = remove_unused_imports(text, merged, uses)
  needed = global_names(merged)
  return add_imports(merged, [i for name, i in found.items()
                              if name in needed and name not in bound])


def remove_unused_imports(before: str, after: str,
                          uses: Callable[[str], bool]) -> str:
  return remove_imports(after, {
      name for name in unused_imports(before, after) if not uses(name)})


def _remove_dead(before: str, after: str, uses: Callable[[str], bool]) -> str:
  # Functions that what was replaced has used, and nothing uses any more.
  while True:
    old, new = _users(before), _users(after)
    for s in statements(after, tree_of(after).body):
      name = getattr(s.node, "name", None)
      if (isinstance(s.node, ast.FunctionDef) and old.get(name, set()) - {name}
          and not new.get(name, set()) - {name} and not uses(name)):
        after = cut_out(after, s)
        break
    else:
      return after


def _users(text: str) -> dict[str, set[str]]:
  # For each global name, the top-level definitions that refer to it.
  users: dict[str, set[str]] = {}
  for node in tree_of(text).body:
    user = getattr(node, "name", None) or key_of(node) or ""
    for n in ast.walk(node):
      if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
        users.setdefault(n.id, set()).add(user)
  return users


def _export(base: Base, path: str, module: str, mirror: str) -> Files:
  # New public names of a private module appear in its public twin.
  twin = path.replace("/_src", "")
  if twin == path:
    return {}
  text = base.read(twin)
  names = [node.name for node in tree_of(mirror).body
           if isinstance(node, (ast.FunctionDef, ast.ClassDef))
           and node.name[0] != "_" and node.name not in imports_of(text)]
  new = text
  for name in names:
    new = add_imports(new, [Import(module, name, name, exported=True)])
  return {twin: (text, new)}


def _tests(base: Base, number: int) -> Files:
  if not _TESTS.is_dir():
    raise BaseError(f"There are no tests to merge in {_TESTS}: run this from a "
                    "clone of the project.")
  patch = PATCHES[number - 1]
  no_uses = lambda name: False
  files: Files = {}
  for path in patch.owns.keys() | patch.drops.keys():
    mirror = _TESTS / path.rpartition("/")[2]
    if path in _EXPECTED_TESTS:
      old = base.read(path)
      text = mirror_at(path, mirror.read_text(encoding="utf-8"), number)
      new = merge_file(path, old, text, None, no_uses)
      for name in patch.drops.get(path, ()):
        new = _drop(path, new, *name.split("/"))
      files[path] = old, remove_unused_imports(old, new, no_uses)
    elif path.startswith("tests/"):
      files |= _new_file(base, path, mirror)
  return files


def _drop(path: str, text: str, cls: str, test: str) -> str:
  for node in tree_of(text).body:
    if getattr(node, "name", None) == cls:
      for s in statements(text, node.body):
        if name_of(s) == test:
          return cut_out(text, s)
  raise BaseError(f"{path} should have the test {cls}.{test}, which the patch "
                  "takes out, and does not.")
