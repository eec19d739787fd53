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

"""Merging a mirror file into the upstream file that it stands for.

A definition that upstream has is replaced where it stands. A new one goes
beside its neighbour: after the definition that it follows in the mirror. A
class that both have is merged by methods, and a docstring by sections. All
other lines of upstream stay as they are.
"""

import ast
import dataclasses
import functools
import symtable

from jax_patch._delivery import docstring


@dataclasses.dataclass(frozen=True)
class Statement:
  """A statement in its file, as a range of lines counted from zero."""
  key: str  # "def f", "class C", "x =", "f.defvjp()"
  node: ast.stmt
  comment: int  # where the comments that lead it start
  start: int
  end: int  # exclusive

  @property
  def name(self) -> str:
    return self.key.removesuffix("()").removesuffix(" =").rpartition(" ")[2]


@dataclasses.dataclass(frozen=True)
class Edit:
  """New lines in place of a range of old ones."""
  start: int
  end: int
  lines: list[str]


@functools.lru_cache(256)
def tree_of(text: str) -> ast.Module:
  """Parses a source. Nobody may change what it returns."""
  return ast.parse(text)


def apply_edits(text: str, edits: list[Edit]) -> str:
  """Makes all edits, of which those at one place keep their order."""
  lines = text.splitlines()
  for _, edit in sorted(enumerate(edits), reverse=True,
                        key=lambda e: (e[1].start, e[1].end, e[0])):
    lines[edit.start:edit.end] = edit.lines
  return "\n".join(lines) + "\n"


def cut_out(text: str, s: Statement) -> str:
  """Removes a statement and the comments that lead it.

  Of the blank lines before and after it, the more numerous stay.
  """
  lines = text.splitlines()
  start, end = s.comment, s.end
  while start and not lines[start - 1].strip():
    start -= 1
  while end < len(lines) and not lines[end].strip():
    end += 1
  blanks = max(s.comment - start, end - s.end) if end < len(lines) else 0
  return apply_edits(text, [Edit(start, end, [""] * blanks)])


def remove(text: str, name: str) -> str | None:
  """Removes a definition, or a method that is named "Class.method".

  Returns:
    The text without it, or None if it is not there.
  """
  cls, _, method = name.rpartition(".")
  found = statements(text, tree_of(text).body)
  if cls:
    found = [m for s in found if s.name == cls and isinstance(
        s.node, ast.ClassDef) for m in statements(text, s.node.body)]
  for s in found:
    if s.name == method:
      return cut_out(text, s)
  return None


def key_of(node: ast.stmt) -> str | None:
  """What a statement defines, or sets a rule of. None for all others."""
  match node:
    case ast.FunctionDef():
      return f"def {node.name}"
    case ast.ClassDef():
      return f"class {node.name}"
    case ast.Assign() | ast.AnnAssign():
      targets = getattr(node, "targets", None) or [node.target]
      return f"{ast.unparse(targets[0])} ="
    case ast.Expr(value=ast.Call()):
      return f"{ast.unparse(node.value.func)}()"
  return None


def statements(text: str, body: list[ast.stmt]) -> list[Statement]:
  """Returns the statements of a body, in order, those with no key left out."""
  lines = text.splitlines()
  found = []
  for node in body:
    key = key_of(node)
    if key is None:
      continue
    decorators = getattr(node, "decorator_list", [])
    start = min(n.lineno for n in [node, *decorators]) - 1
    comment = start
    while _is_comment(lines[comment - 1]):
      comment -= 1
    found.append(Statement(key, node, comment, start, node.end_lineno))
  return found


def _is_comment(line: str) -> bool:
  return line.lstrip().startswith("#") and not line.startswith("###")


def merge(base: str, mirror: str, names: set[str] | None = None) -> str:
  """Merges a mirror file into the upstream file that it stands for.

  Args:
    base: the upstream file.
    mirror: the mirror.
    names: which of its definitions, and "Class.method" of classes. The others
      only show where these belong. None stands for all.

  Returns:
    The merged file, whose imports are those of the base.
  """
  merger = _Merger(base, mirror)
  body = tree_of(mirror).body
  merger.merge_body(tree_of(base).body, body, names)
  merged = apply_edits(base, merger.edits)
  for node in body:
    match node:  # f.fun = edited(f, "old", "new").fun
      case ast.Assign(value=ast.Attribute(value=ast.Call(
          func=ast.Name("edited"), args=[f, old, new]))):
        if names is None or f"{f.id}.fun" in names:
          merged = _edit_expression(merged, f.id, old.value, new.value)
  return merged


def _edit_expression(text: str, name: str, old: str, new: str) -> str:
  lines = text.splitlines()
  return apply_edits(text, [
      Edit(i, i + 1, [lines[i].replace(old, new)])
      for s in statements(text, tree_of(text).body) if s.key == f"def {name}"
      for i in range(s.start, s.end)
      if old in lines[i] and new not in lines[i]])


class _Merger:

  def __init__(self, base: str, mirror: str):
    self.base, self.mirror = base, mirror
    self.base_lines, self.mirror_lines = base.splitlines(), mirror.splitlines()
    self.edits: list[Edit] = []

  def merge_body(self, base_body: list[ast.stmt], mirror_body: list[ast.stmt],
                 names: set[str] | None):
    old = {s.key: s for s in statements(self.base, base_body)}
    waiting = []  # for a neighbour that upstream has
    anchor = None
    head = _end_of_head(base_body)
    for s in statements(self.mirror, mirror_body):
      parts = None
      if names is not None and s.name not in names:
        parts = {n.removeprefix(f"{s.name}.") for n in names
                 if n.startswith(f"{s.name}.")}
        parts = parts if isinstance(s.node, ast.ClassDef) else set()
      if s.key.endswith(".fun ="):  # an edited expression
        continue
      if s.key in old:
        if waiting:
          where = old[s.key].comment
          for (w, p), (following, _) in zip(
              waiting, [*waiting[1:], (s, None)]):
            self.edits.append(Edit(where, where, [
                *self._comments(w), *self._text(w, parts=p),
                *self._blanks_before(following)]))
          waiting = []
        if parts != set():
          self._replace(old[s.key], s, parts)
        anchor = max(old[s.key].end, head)
      elif parts == set() or names is None and not _is_definition(
          s, mirror_body):
        continue
      elif anchor is None:
        waiting.append((s, parts))
      else:
        self._insert_after(anchor, s, parts)
    # `if __name__ == '__main__'` is the end of a test.
    end = [n.end_lineno for n in base_body if not isinstance(n, ast.If)][-1]
    for s, parts in waiting:
      self._insert_after(end, s, parts)

  def _insert_after(self, line: int, s: Statement, parts: set[str] | None):
    self.edits.append(Edit(line, line, [
        *self._blanks_before(s), *self._comments(s),
        *self._text(s, parts=parts)]))

  def _blanks_before(self, s: Statement) -> list[str]:
    at = s.start - len(self._comments(s))
    blanks = 0
    while not self.mirror_lines[at - 1 - blanks].strip():
      blanks += 1
    return [""] * max(blanks, 1)

  def _replace(self, old: Statement, new: Statement, parts: set[str] | None):
    if ast.dump(old.node) == ast.dump(new.node):
      return
    if isinstance(old.node, ast.ClassDef):
      self.merge_body(old.node.body, new.node.body, parts)
      return
    comments = self._comments(new)
    start = old.comment if comments else old.start
    self.edits.append(Edit(start, old.end, [
        *comments, *self._text(new, old=old)]))

  def _text(self, s: Statement, old: Statement | None = None,
            parts: set[str] | None = None) -> list[str]:
    text = "\n".join(self.mirror_lines[s.start:s.end]) + "\n"
    if parts is not None:  # of a class that upstream does not have
      for m in reversed(statements(self.mirror, s.node.body)):
        if m.name not in parts:
          moved = dataclasses.replace(
              m, comment=m.comment - s.start, end=m.end - s.start)
          text = cut_out(text, moved)
    lines = text.splitlines()
    theirs = old and _docstring_of(self.base_lines, old.node)
    if theirs and isinstance(s.node, ast.FunctionDef):
      at = s.node.body[0].lineno - 1 - s.start
      if ours := _docstring_of(self.mirror_lines, s.node):
        del lines[at:s.node.body[0].end_lineno - s.start]
        theirs = f'  """{docstring.merge(theirs[5:-3], ours[5:-3])}"""'
      lines[at:at] = theirs.splitlines()
    return lines

  def _comments(self, s: Statement) -> list[str]:
    # All since the statement before, also those set off by a blank line.
    start = s.start
    while start and (_is_comment(self.mirror_lines[start - 1]) or
                     not self.mirror_lines[start - 1].strip()):
      start -= 1
    lines = self.mirror_lines[start:s.start]
    while lines and not lines[0].strip():
      lines = lines[1:]
    return lines


def _end_of_head(body: list[ast.stmt]) -> int:
  # Where the imports of a module end, with flags and constants after them.
  ends = [0]
  for node in body:
    if hasattr(node, "name"):
      break
    ends.append(node.end_lineno)
  return ends[-1]


def _docstring_of(lines: list[str], node: ast.stmt) -> str:
  match node:
    case ast.FunctionDef(body=[ast.Expr(value=ast.Constant(str())) as doc, *_]):
      return "\n".join(lines[doc.lineno - 1:doc.end_lineno])
  return ""


def _is_definition(s: Statement, body: list[ast.stmt]) -> bool:
  # Of the other calls only those that set a rule of what the file defines.
  if not isinstance(s.node, ast.Expr):
    return True
  root = s.key.partition(".")[0].removesuffix("()")
  return any(key_of(n) in (f"def {root}", f"{root} =") for n in body)


@functools.lru_cache(256)
def global_names(text: str) -> set[str]:
  """Returns the global names that some source refers to."""
  names = set()

  def visit(table):
    for symbol in table.get_symbols():
      is_global = symbol.is_global() or (
          table.get_type() == "module" and symbol.is_referenced())
      if is_global and symbol.is_referenced():
        names.add(symbol.get_name())
    for child in table.get_children():
      visit(child)

  visit(symtable.symtable(text, "<file>", "exec"))
  # Annotations are no part of a symbol table where their evaluation is put off.
  for node in ast.walk(tree_of(text)):
    for annotation in (getattr(node, "annotation", None),
                       getattr(node, "returns", None)):
      if isinstance(annotation, ast.Constant) and isinstance(
          annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval")
      if isinstance(annotation, ast.AST):
        names |= {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
  return names
