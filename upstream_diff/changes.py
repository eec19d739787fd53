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

"""Every file that the patches change or add in an upstream tree."""

import ast

from jax_patch._delivery.patch import PRIVATE
from upstream_diff import documents
from upstream_diff import series
from upstream_diff.base import Base, BaseError, bound_names, parse
from upstream_diff.imports import (
    add_imports, Import, imports_of, mirror_imports, remove_imports,
    unused_imports)
from upstream_diff.merge import global_names, merge, remove, tree_of
from upstream_diff.series import MIRRORS, MODULES, Patch, PATCHES

# What an older tree has instead of the newest spelling of a mirror, if its file
# does not have the name yet.
_OLDER = {"tracing_registry": ("tracing_registry.flatten(", "tree_flatten(")}

SUBJECT = "Complete jax.closure_convert, and let odeint share it"
BODY = "\n\n".join(f"{p.subject}\n\n{p.body}" for p in PATCHES)

Files = dict[str, tuple[str | None, str]]  # what is there, and what comes


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
  base.check_version()
  if not (base.package_only or series.TESTS.is_dir()):
    raise BaseError(f"There are no tests to merge in {series.TESTS}: run this "
                    "from a clone of the project.")
  for path in MIRRORS:
    parse(base.read(path), path)
  there = max((number for number, patch in enumerate(PATCHES, 1)
               if _is_there(base, patch)), default=0)
  if there == len(PATCHES):
    raise BaseError(f"This tree has the patch already, in {base.root}.")
  patches = {}
  for number, patch in enumerate(PATCHES[there:], there + 1):
    patches[number] = _changed_by(base, patch)
    base = base.changed(patches[number])
  base.check_clean(sorted({p for files in patches.values() for p in files}))
  return patches


def unlike_mirrors(base: Base) -> list[str]:
  """What a tree with all patches has otherwise than the mirrors have it."""
  found = []
  for path in MIRRORS.keys() | {p for patch in PATCHES for p in patch.paths}:
    if base.exists(path) and not (
        base.package_only and path.startswith("tests/")):
      text = base.read(path)
      mirror = _spelled(text, series.project_file(path).read_text("utf-8"))
      if merge(text, mirror) != text:
        found.append(path)
  return sorted(found)


def _is_there(base: Base, patch: Patch) -> bool:
  # Whether the modules have what the patch brings, as the patch brings it.
  paths = [path for path in patch.paths if path in MIRRORS]
  return bool(paths) and all(
      _merged(base, patch, path) == base.read(path) for path in paths)


def _merged(base: Base, patch: Patch, path: str) -> str:
  # The file with the definitions of the patch, and with its old imports.
  text = base.read(path)
  for mirror, names in patch.mirrors(path):
    text = merge(text, _spelled(base.read(path), mirror), names)
  for name in patch.names("removes").get(path, ()):
    text = remove(text, name) or text
  return text


def _spelled(base: str, mirror: str) -> str:
  for name, (newest, older) in _OLDER.items():
    if name not in imports_of(base):
      mirror = mirror.replace(newest, older)
  return mirror


def _changed_by(base: Base, patch: Patch) -> Files:
  for path in sorted(patch.paths, key=lambda p: p not in MIRRORS):
    if path in MIRRORS or not base.package_only:
      _check_there(base, patch, path)
  # What uses a definition that goes is changed before it: tests, then modules.
  files: Files = {}
  for path in sorted(patch.paths, key=lambda p: p in MIRRORS):
    if path in MIRRORS or not base.package_only:
      text = base.read(path)
      mirrors = [_spelled(text, mirror) for mirror, _ in patch.mirrors(path)]
      uses = _uses(base.changed(files), path)
      files[path] = text, with_imports(
          path, text, _merged(base, patch, path), mirrors, MODULES.get(path),
          uses)
      if used := [n for n in patch.names("removes").get(path, ()) if uses(n)]:
        raise BaseError(f"Other files use {', '.join(used)} of {path}, which "
                        f"the patch takes out, in {base.root}.")
      files |= _export(base, path, files[path][1])
  for path in patch.content.get("files", ()):
    if not (base.package_only and path.startswith("tests/")):
      if base.exists(path):
        raise BaseError(f"{path} is there already, in {base.root}.")
      files[path] = None, _new_file(patch.new_file(path))
  for path, (before, after) in files.items():
    if not path.startswith("tests/"):
      _check_names(base.changed(files), path, before or "", after)
  if not base.package_only:
    files |= documents.documents(base, patch, files)
  if traces := [path for path, (_, text) in files.items()
                if "jax_patch" in text]:
    raise AssertionError(f"this project shows in {traces}")
  return dict(sorted((path, texts) for path, texts in files.items()
                     if texts[0] != texts[1]))


def _uses(base: Base, path: str):
  module = MODULES.get(path)
  return lambda name: module is not None and base.uses(module, name, path)


def _check_there(base: Base, patch: Patch, path: str):
  text = base.read(path)
  there = series.defined(text) | bound_names(parse(text, path))
  for what in ("changes", "removes"):
    names = {n.removesuffix(".fun") for n in patch.names(what).get(path, ())}
    if missing := names - there:
      raise BaseError(
          f"{', '.join(sorted(missing))} should be there and is not: looked for"
          f" it in {path} of jax {base.version} in {base.root}.")
  if found := {*patch.names("adds").get(path, ())} & there:
    raise BaseError(
        f"{path} has {', '.join(sorted(found))} already, but otherwise than the"
        f" patch \"{patch.subject}\", in {base.root}. If that was merged with"
        " changes, take them over into the mirror first.")


def with_imports(path: str, before: str, after: str, mirrors: list[str],
                 module: str | None, uses) -> str:
  """Adds the imports that a merged file needs, and removes those it does not.

  `mirrors` are what was merged into it, and `module` is the upstream module
  that it is, or None for a test. `uses` says whether other files use a name.
  """
  after = remove_imports(after, {
      name for name in unused_imports(before, after) if not uses(name)})
  bound, needed = imports_of(before), global_names(after)
  new = {}
  for mirror in mirrors:
    for name, i in mirror_imports(mirror, module).items():
      if name not in needed:
        continue
      if name in bound and bound[name].binds != i.binds:
        raise BaseError(f"{path} has `{bound[name]}`, and the patch has `{i}`.")
      # A test that imports `jax.a` needs more than `import jax`.
      is_submodule = i.module is None and "." in i.attr
      if name not in bound or is_submodule and str(i) not in before:
        new[str(i)] = i
  return add_imports(after, list(new.values()))


def _new_file(text: str) -> str:
  # The imports of this project become upstream's, and go to their places.
  ours = {name for name, i in imports_of(text).items()
          if (i.module or i.attr).partition(".")[0] == "jax_patch"}
  found = mirror_imports(text, None)
  return add_imports(remove_imports(text, ours),
                     [found[name] for name in found if name in ours])


def _check_names(base: Base, path: str, before: str, after: str):
  # What the patch imports or takes out of a module has to be there.
  old = {*imports_of(before).values()}
  used = _attributes(after) - _attributes(before)
  for i in imports_of(after).values():
    if (i.module or i.attr).partition(".")[0] != "jax":
      continue
    if i.module and i not in old:
      base.check_importable(i.module, i.attr)
    module = f"{i.module}.{i.attr}" if i.module else i.binds[1]
    if base.module_path(module):
      for name, attr in sorted(used):
        if name == i.name and not base.module_path(f"{module}.{attr}"):
          base.check_importable(module, attr)


def _attributes(text: str) -> set[tuple[str, str]]:
  return {(n.value.id, n.attr) for n in ast.walk(tree_of(text))
          if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}


def _export(base: Base, path: str, text: str) -> Files:
  # New public names of a private module appear in its public twin.
  twin = path.replace("/_src", "")
  if twin == path or MODULES.get(path) in {None, *PRIVATE}:
    return {}
  old = base.read(twin)
  names = [node.name for node in tree_of(text).body
           if isinstance(node, (ast.FunctionDef, ast.ClassDef))
           and node.name[0] != "_"
           and node.name not in series.defined(base.read(path))]
  return {twin: (old, add_imports(old, [
      Import(MODULES[path], name, name, exported=True) for name in names]))}
