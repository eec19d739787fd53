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

"""The source tree that a diff is made against."""

import ast
import functools
import importlib.util
import pathlib
import re
import subprocess
import sys

from upstream_diff.merge import tree_of


class BaseError(Exception):
  """The tree is not one that the diff can be made against."""


class Base:
  """A tree of JAX: an installed one, an unpacked one, or a checkout.

  Attributes:
    root: the directory that holds ``jax/``.
    installed: whether this is the JAX that this Python imports.
    package_only: whether there are no tests and documents.
  """

  def __init__(self, root: pathlib.Path, installed: bool):
    self.root = root
    self.installed = installed
    self._texts: dict[str, str] = {}
    self.package_only = not self.exists("tests/ode_test.py")

  @classmethod
  def find(cls, upstream: str | None) -> "Base":
    """Finds the installed JAX, or the tree at a path."""
    if upstream is None:
      spec = importlib.util.find_spec("jax")
      if spec is None or spec.origin is None:
        raise BaseError("There is no JAX installed, and no --upstream given.")
      return cls(pathlib.Path(spec.origin).parent.parent, installed=True)
    root = pathlib.Path(upstream).resolve()
    if not root.is_dir():
      raise BaseError(f"{root} is not a directory.")
    base = cls(root, installed=False)
    for path in ("jax/__init__.py", "jax/version.py"):
      if not base.exists(path):
        raise BaseError(
            f"{root} is not a source tree of JAX: it has no {path}.")
    return base

  def changed(self, files: dict[str, tuple[str | None, str]]) -> "Base":
    """Returns the tree with changes that are not written to it."""
    base = Base(self.root, self.installed)
    base._texts = self._texts | {path: new for path, (_, new) in files.items()}
    base._stored = self._stored
    return base

  def exists(self, path: str) -> bool:
    return path in self._texts or (self.root / path).is_file()

  def read(self, path: str) -> str:
    """Reads a file that has to be there."""
    if not self.exists(path):
      raise BaseError(f"{path} is missing: looked for it in {self.root}.")
    if path in self._texts:
      return self._texts[path]
    return (self.root / path).read_text(encoding="utf-8")

  @property
  def predates_closure_convert(self) -> bool:
    """Whether this JAX is from before ``jax.closure_convert``."""
    path = "jax/custom_derivatives.py"
    return not self.exists("jax/_src/custom_derivatives.py") and (
        self.exists(path))

  @functools.cached_property
  def version(self) -> str:
    return re.search(r"^_?_?version_?_? = ['\"](.*)['\"]$",
                     self.read("jax/version.py"), re.MULTILINE)[1]

  def check_version(self):
    """Raises a BaseError if this JAX is older than the patches are for."""
    if [*map(int, re.findall(r"\d+", self.version)[:2])] < [0, 11]:
      raise BaseError(
          f"This is jax {self.version}, in {self.root}. The diff is made for "
          "jax 0.11 and later.")

  def module_path(self, module: str) -> str | None:
    """Returns the file of a module of JAX."""
    stem = module.replace(".", "/")
    for path in (f"{stem}.py", f"{stem}/__init__.py"):
      if self.exists(path):
        return path
    return None

  def check_importable(self, module: str, attr: str):
    """Raises a BaseError if the tree does not have what an import asks for."""
    path = self.module_path(module)
    if path is None:
      raise BaseError(f"The module {module} should be there and is not: looked "
                      f"for it in {self.root}, which is jax {self.version}.")
    if self.module_path(f"{module}.{attr}") is None:
      bound = bound_names(parse(self.read(path), path))
      # What comes from compiled modules, or with a star, does not show.
      if attr not in bound and "*" not in bound and (
          "__getattr__" not in bound):
        raise BaseError(
            f"{attr} should be there and is not: looked for it in {path} of "
            f"jax {self.version} in {self.root}.")

  def uses(self, module: str, name: str, but_not_in: str) -> bool:
    """Whether other files of the tree take a name out of a module."""
    tail = re.escape(module.rpartition(".")[2])
    use = re.compile(
        rf"\b{tail}\.{name}\b|"
        rf"\b{tail} import (\([^)]*|[^(\n]*)(\b{name}\b|\*)")
    return any(name in text and use.search(text)
               for path, text in (self._stored | self._texts).items()
               if path != but_not_in)

  @functools.cached_property
  def _stored(self) -> dict[str, str]:
    files = sorted(f for top in ("jax", "tests")
                   for f in (self.root / top).rglob("*.py"))
    return {f.relative_to(self.root).as_posix():
            f.read_text(encoding="utf-8", errors="replace") for f in files}

  def check_clean(self, paths: list[str]):
    """Raises a BaseError for files of a checkout with uncommitted changes."""
    if not (self.root / ".git").exists():
      return
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *paths], cwd=self.root,
        capture_output=True, text=True, check=True).stdout
    if changed:
      raise BaseError(f"Uncommitted changes are in the way, in {self.root}:\n"
                      f"{changed.rstrip()}")


def parse(text: str, path: str) -> ast.Module:
  """Parses a file of the tree, which may be written in a newer Python."""
  try:
    return tree_of(text)
  except SyntaxError as error:
    raise BaseError(
        f"{path}, line {error.lineno}, does not parse. This is Python "
        f"{'.'.join(map(str, sys.version_info[:2]))}: use one that this JAX "
        "supports.") from error


def bound_names(module: ast.Module) -> set[str]:
  """Returns all names that a module binds at the top level, however deep."""
  names = set()
  todo = list(module.body)
  while todo:
    node = todo.pop()
    match node:
      case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
        names.add(node.name)
        continue
      case ast.Import() | ast.ImportFrom():
        names |= {a.asname or a.name.partition(".")[0] for a in node.names}
      case ast.Name(ctx=ast.Store()):
        names.add(node.id)
    todo += ast.iter_child_nodes(node)
  return names
