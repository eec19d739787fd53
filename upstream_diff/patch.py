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
import pathlib
import re

import jax_patch
from jax_patch import _patch
from upstream_diff import bazel
from upstream_diff import documents
from upstream_diff.base import Base, BaseError
from upstream_diff.imports import (
    add_imports, Import, imports_of, mirror_imports, remove_imports,
    unused_imports, upstream_module)
from upstream_diff.merge import (
    apply_edits, Edit, global_names, key_of, merge, Statement, statements)

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
# Test files that upstream does not have. Each stands alone: upstream's pytest
# does not look for modules beside a test.
_NEW_TESTS = ("closure_coverage_test.py", "closure_identity_test.py",
              "closure_pytree_test.py", "trace_by_source_test.py")
# Unused after the change, but for a test of its own: whether it goes, and its
# test with it, is upstream's to say.
_KEPT = {"_maybe_perturbed"}

# Of each file, what is there and what the patch makes of it.
Files = dict[str, tuple[str | None, str]]


def changed_files(base: Base) -> Files:
  """Returns what the patch makes of the files of a tree.

  Raises:
    BaseError: if the tree is not as expected, or has the patch already.
  """
  mirrors = {path_of(upstream): (upstream, _MIRROR / mirror_path(mirror))
             for mirror, upstream in _patch._UPSTREAM.items()}
  new = {path_of(upstream_module(f"jax_patch.{f.stem}")): f
         for f in sorted(_MIRROR.glob("*.py"))
         if f.name[0] != "_" and f.name != "api.py"
         and f not in [mirror for _, mirror in mirrors.values()]}
  if there := [path for path in new if base.exists(path)]:
    raise BaseError(f"This tree has the patch already: {', '.join(there)} is "
                    f"there, in {base.root}.")
  expected = _EXPECTED | ({} if base.package_only else _EXPECTED_TESTS)
  for path, names in expected.items():
    base.check_defines(path, names)

  files: Files = {}
  for path, f in new.items():
    files[path] = None, _new_file(f.read_text(encoding="utf-8"))
  for path, (module, mirror) in mirrors.items():
    text = base.read(path)
    files[path] = text, merge_module(
        base, path, text, mirror.read_text(encoding="utf-8"), module)
  for before, after in files.values():
    old = imports_of(before or "").values()
    for i in imports_of(after).values():
      if i not in old and (i.module or "").partition(".")[0] == "jax" and not (
          {path_of(i.module), path_of(f"{i.module}.{i.attr}")} & files.keys()):
        base.check_importable(i.module, i.attr)
  files |= _export(base, mirrors)
  if not base.package_only:
    files |= _tests(base)
    files |= bazel.build_files(base, [*new], files, _NEW_TESTS)
    files |= documents.documents(base)
  if traces := [path for path, (_, text) in files.items()
                if re.search(r"jax_patch|apply_patch", text)]:
    raise AssertionError(f"this project shows in {traces}")
  base.check_clean(sorted(files))
  return dict(sorted(files.items()))


def path_of(module: str) -> str:
  return module.replace(".", "/") + ".py"


def mirror_path(module: str) -> str:
  return path_of(module.removeprefix("jax_patch."))


def _new_file(text: str) -> str:
  # The imports of this project become upstream's, and go to their places.
  ours = {name for name, i in imports_of(text).items()
          if (i.module or i.attr).partition(".")[0] in ("jax_patch",
                                                        "apply_patch")}
  found = mirror_imports(text, None)
  return add_imports(remove_imports(text, ours),
                     [found[name] for name in found if name in ours])


def merge_module(base: Base, path: str, text: str, mirror: str,
                  module: str | None) -> str:
  merged, _ = merge(text, mirror)
  found = mirror_imports(mirror, module)
  bound = imports_of(text)
  for name, i in found.items():
    if name in bound and bound[name].binds != i.binds:
      raise BaseError(f"{path} has `{bound[name]}`, and the patch has `{i}`.")
  if module is not None:
    merged = _remove_dead(base, path, text, merged, module)
    merged = remove_imports(merged, {
        name for name in unused_imports(text, merged)
        if not base.uses(module, name, {path})})
  needed = global_names(merged)
  return add_imports(merged, [i for name, i in found.items()
                              if name in needed and name not in bound])


def _remove_dead(base: Base, path: str, before: str, after: str,
                 module: str) -> str:
  # Functions that what was replaced has used, and nothing uses any more.
  while True:
    old, new = _users(before), _users(after)
    for s in statements(after, ast.parse(after).body):
      name = getattr(s.node, "name", None)
      if not isinstance(s.node, ast.FunctionDef) or name in _KEPT or (
          not old.get(name, set()) - {name}) or new.get(name, set()) - {name}:
        continue
      if base.uses(module, name, {path}):
        continue
      after = _cut_out(after, s)
      break
    else:
      return after


def _cut_out(text: str, s: Statement) -> str:
  # Of the blank lines before and after it, the more numerous stay.
  lines = text.splitlines()
  start, end = s.comment, s.end
  while start and not lines[start - 1].strip():
    start -= 1
  while end < len(lines) and not lines[end].strip():
    end += 1
  blanks = max(s.comment - start, end - s.end) if end < len(lines) else 0
  return apply_edits(text, [Edit(start, end, [""] * blanks)])


def _users(text: str) -> dict[str, set[str]]:
  # For each global name, the top-level definitions that refer to it.
  users: dict[str, set[str]] = {}
  for node in ast.parse(text).body:
    user = getattr(node, "name", None) or key_of(node) or ""
    for n in ast.walk(node):
      if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
        users.setdefault(n.id, set()).add(user)
  return users


def _export(base: Base, mirrors: dict) -> Files:
  # New public names of a private module appear in its public twin.
  files: Files = {}
  for path, (module, mirror) in mirrors.items():
    twin = path.replace("/_src", "")
    if twin == path:
      continue
    text = base.read(twin)
    there = imports_of(text)
    names = [node.name for node in ast.parse(mirror.read_text()).body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))
             and node.name[0] != "_" and node.name not in there]
    if not names:
      raise BaseError(f"This tree has the patch already: {twin} has all of the "
                      f"names, in {base.root}.")
    new = text
    for name in names:
      new = add_imports(new, [Import(module, name, name, exported=True)])
    files[twin] = text, new
  return files


def _tests(base: Base) -> Files:
  if not _TESTS.is_dir():
    raise BaseError(f"There are no tests to merge in {_TESTS}: run this from a "
                    "clone of the project.")
  files: Files = {}
  for path in _EXPECTED_TESTS:
    text = base.read(path)
    mirror = _TESTS / path.rpartition("/")[2]
    files[path] = text, merge_module(
        base, path, text, mirror.read_text(encoding="utf-8"), None)
  for name in _NEW_TESTS:
    files[f"tests/{name}"] = None, _new_file(
        (_TESTS / name).read_text(encoding="utf-8"))
  return files
