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

"""Adding imports to an upstream file, and removing those left unused.

Each goes where the style of the file puts it, and no other line is touched.
"""

import ast
import dataclasses
import re
import sys

from upstream_diff.merge import apply_edits, Edit, global_names, tree_of


@dataclasses.dataclass(frozen=True)
class Import:
  """What one name is bound to by an import."""
  module: str | None  # of `from module import attr as name`, or None
  attr: str
  name: str
  exported: bool = False  # `import attr as attr`, which type checkers know

  def __str__(self) -> str:
    start = f"from {self.module} " if self.module else ""
    return f"{start}import {self.clause}"

  @property
  def clause(self) -> str:
    plain = self.name == self.attr.partition(".")[0] and not self.exported
    return self.attr if plain else f"{self.attr} as {self.name}"

  @property
  def binds(self) -> tuple[str | None, str]:
    # `import a.b` binds `a`, as `import a` does.
    root = self.attr.partition(".")[0]
    is_root = self.module is None and self.name == root
    # `typing` has other names for what is in `collections.abc`.
    module = "typing" if self.module == "collections.abc" else self.module
    return module, root if is_root else self.attr


def imports_of(text: str) -> dict[str, Import]:
  """Returns what each name is bound to by the imports at the top level."""
  return {i.name: i for node in tree_of(text).body for i in _imports(node)}


def _imports(node: ast.stmt) -> list[Import]:
  if isinstance(node, ast.ImportFrom):
    return [Import(_module(node), a.name, a.asname or a.name)
            for a in node.names]
  if isinstance(node, ast.Import):
    return [Import(None, a.name, a.asname or a.name.partition(".")[0])
            for a in node.names]
  return []


def _module(node: ast.stmt) -> str | None:
  if isinstance(node, ast.ImportFrom):
    return "." * node.level + (node.module or "")
  return None


def upstream_module(module: str) -> str:
  """Returns the upstream module that a module of this project stands for."""
  if module.partition(".")[0] != "jax_patch":
    return module
  name = module.removeprefix("jax_patch").lstrip(".")
  return f"jax.{name}" if name.startswith("experimental") else (
      f"jax._src.{name}".rstrip("."))


def mirror_imports(text: str, module: str | None) -> dict[str, Import]:
  """Returns what a mirror file imports, as upstream spells it.

  Args:
    text: the source of the mirror file.
    module: the upstream module that it stands for, whose own names it need not
      import there.
  """
  found = {}
  for name, i in imports_of(text).items():
    i = dataclasses.replace(i, module=i.module and upstream_module(i.module))
    if i.module != module or module is None:
      found[name] = i
  return found


def add_imports(text: str, new: list[Import]) -> str:
  """Adds imports, in the places that the style of the file has for them."""
  for i in sorted(new, key=_sort_key):
    nodes = [n for n in tree_of(text).body if _imports(n)]
    same = [n for n in nodes if i.module and _module(n) == i.module]
    # The modules of a package have a line each.
    if same and i.module not in ("jax", "jax._src", "."):
      text = _add_name(text, same[-1], i)
    else:
      text = _add_line(text, nodes, i)
  return text


def _sort_key(i: Import) -> tuple:
  return (not _is_stdlib(i), (i.module or i.attr).lower(), i.attr.lower())


def _is_stdlib(i: Import) -> bool:
  return (i.module or i.attr).partition(".")[0] in sys.stdlib_module_names


def _add_line(text: str, nodes: list[ast.stmt], i: Import) -> str:
  # After the last import that sorts before it, among those of its kind.
  is_future = lambda n: _module(n) == "__future__"
  kind = [n for n in nodes if not is_future(n)
          and _is_stdlib(_imports(n)[0]) == _is_stdlib(i)
          and _package(_imports(n)[0]) == _package(i)]
  if not kind and i.module is None and not _is_stdlib(i):
    # A group of its own, before those of JAX.
    line = next(n.lineno - 1 for n in nodes
                if _package(_imports(n)[0])[0] == "jax")
    return apply_edits(text, [Edit(line, line, [str(i), ""])])
  kind = kind or [n for n in nodes if not is_future(n)
                  and _is_stdlib(_imports(n)[0]) == _is_stdlib(i)] or nodes
  # The names of a module, or the modules of a package, stay together.
  kind = [n for n in kind if i.module and _module(n) == i.module] or kind
  before = [n for n in kind if _sort_key(_imports(n)[0]) < _sort_key(i)]
  line = before[-1].end_lineno if before else kind[0].lineno - 1
  return apply_edits(text, [Edit(line, line, [str(i)])])


def _package(i: Import) -> tuple[str, bool] | str:
  module = i.module or i.attr
  if _is_stdlib(i):
    return "stdlib"
  return module.partition(".")[0], module.startswith("jax._src")


def _add_name(text: str, node: ast.ImportFrom, i: Import) -> str:
  lines = text.splitlines()
  new = i.clause
  last = node.names[-1]
  line = last.end_lineno - 1
  one_each = len(node.names) > 1 and len(
      {a.lineno for a in node.names}) == len(node.names)
  if one_each and node.names[0].lineno > node.lineno:
    before = [a for a in node.names if a.name.lower() < new.lower()
              and a.name[0] != "_"]
    at = (before or node.names[:1])[-1].end_lineno
    if not before:
      at = node.names[0].lineno - 1
    indent = re.match(r"\s*", lines[node.names[0].lineno - 1])[0]
    return apply_edits(text, [Edit(at, at, [f"{indent}{new},"])])
  head, tail = lines[line][:last.end_col_offset], lines[line][
      last.end_col_offset:]
  if len(f"{head}, {new}{tail}") <= 80:
    edited = [f"{head}, {new}{tail}"]
  elif node.lineno == node.end_lineno and "(" not in lines[line]:
    start, names = lines[line].split(" import ", 1)
    edited = [f"{start} import (", f"    {names}, {new})"]
  else:
    indent = " " * node.names[0].col_offset if (
        node.names[0].lineno == node.lineno) else re.match(
            r"\s*", lines[line])[0]
    edited = [f"{head},", f"{indent}{new}{tail}"]
  return apply_edits(text, [Edit(line, line + 1, edited)])


def remove_imports(text: str, names: set[str]) -> str:
  """Removes the imports that bind the given names at the top level."""
  edits = []
  lines = text.splitlines()
  for node in tree_of(text).body:
    bound = _imports(node)
    gone = [k for k, i in enumerate(bound) if i.name in names]
    if not gone:
      continue
    if len(gone) == len(bound):
      edits.append(Edit(node.lineno - 1, node.end_lineno, []))
      continue
    # From each name to the start of the next; and those at the end all at once,
    # from the end of the last that stays.
    region = lines[node.lineno - 1:node.end_lineno]
    last_kept = max(set(range(len(bound))) - set(gone))
    if last_kept + 1 < len(bound):
      a, b = node.names[last_kept], node.names[-1]
      region = _cut(region, node.lineno, (a.end_lineno, a.end_col_offset),
                    (b.end_lineno, b.end_col_offset))
    for k in reversed([k for k in gone if k < last_kept]):
      a, b = node.names[k], node.names[k + 1]
      region = _cut(region, node.lineno, (a.lineno, a.col_offset),
                    (b.lineno, b.col_offset))
    edits.append(Edit(node.lineno - 1, node.end_lineno, region))
  return apply_edits(text, edits)


def _cut(region, first, start, end):
  (l0, c0), (l1, c1) = start, end
  l0, l1 = l0 - first, l1 - first
  if l0 == l1:
    line = region[l0]
    return [*region[:l0], (line[:c0] + line[c1:]).rstrip(), *region[l0 + 1:]]
  head, tail = region[l0][:c0].rstrip(), region[l1][c1:]
  if not head:  # the name was alone in its line
    return [*region[:l0], region[l1][:c1] + tail, *region[l1 + 1:]]
  if not tail.strip(" ),"):
    return [*region[:l0], head + tail, *region[l1 + 1:]]
  return [*region[:l0], head, region[l1][:c1] + tail, *region[l1 + 1:]]


def unused_imports(before: str, after: str) -> set[str]:
  """Returns the imports that one source needed and the other does not."""
  gone = global_names(before) - global_names(after)
  return {name for name in imports_of(after) if name in gone}
