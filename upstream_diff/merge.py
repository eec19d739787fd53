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
class that both have is merged by methods. All other lines of upstream stay as
they are.
"""

import ast
import dataclasses
import functools
import symtable


@dataclasses.dataclass(frozen=True)
class Statement:
  """A statement in its file, as a range of lines counted from zero."""
  key: str  # "def f", "class C", "x =", "f.defvjp()"
  node: ast.stmt
  comment: int  # where the comments that lead it start
  start: int
  end: int  # exclusive


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


def cut_out(text: str, s: Statement, detached: bool = False) -> str:
  """Removes a statement and the comments that lead it.

  Of the blank lines before and after it, the more numerous stay.

  Args:
    text: the file.
    s: the statement.
    detached: whether comments that a blank line sets off go too.
  """
  lines = text.splitlines()
  first, end = s.comment, s.end
  start = first
  while start and not lines[start - 1].strip():
    start -= 1
    while detached and start and _is_comment(lines[start - 1]):
      first = start = start - 1
  while end < len(lines) and not lines[end].strip():
    end += 1
  blanks = max(first - start, end - s.end) if end < len(lines) else 0
  return apply_edits(text, [Edit(start, end, [""] * blanks)])


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


def merge(base: str, mirror: str) -> tuple[str, list[str]]:
  """Merges a mirror file into the upstream file that it stands for.

  Returns:
    The merged file, whose imports are those of the base, and the keys of the
    definitions that were replaced.
  """
  merger = _Merger(base, mirror)
  mirror_body = tree_of(mirror).body
  merger.merge_body(tree_of(base).body, mirror_body)
  merged = apply_edits(base, merger.edits)
  for name, old, new in edited_expressions(mirror_body):
    merged = _edit_expression(merged, name, old, new)
  return merged, merger.replaced


def edited_expressions(body: list[ast.stmt]) -> list[tuple[str, str, str]]:
  """Returns what each `f.fun = edited(f, old, new).fun` of a mirror edits."""
  found = []
  for node in body:
    match node:
      case ast.Assign(value=ast.Attribute(value=ast.Call(
          func=ast.Name("edited"), args=[name, old, new]))):
        found.append((name.id, old.value, new.value))
  return found


def _edit_expression(text: str, name: str, old: str, new: str) -> str:
  lines = text.splitlines()
  edits = []
  for s in statements(text, tree_of(text).body):
    if s.key == f"def {name}":
      for i, line in enumerate(lines[s.start:s.end], s.start):
        if old in line:
          edits.append(Edit(i, i + 1, [line.replace(old, new)]))
  return apply_edits(text, edits)


class _Merger:

  def __init__(self, base: str, mirror: str):
    self.base, self.mirror = base, mirror
    self.base_lines, self.mirror_lines = base.splitlines(), mirror.splitlines()
    self.edits: list[Edit] = []
    self.replaced: list[str] = []

  def merge_body(self, base_body: list[ast.stmt], mirror_body: list[ast.stmt]):
    old = {s.key: s for s in statements(self.base, base_body)}
    new = [s for s in statements(self.mirror, mirror_body)
           if s.key in old or _is_definition(s, mirror_body)]
    waiting = []  # for a neighbour that upstream has
    anchor = None
    head = _end_of_head(base_body)
    for i, s in enumerate(new):
      if s.key in old:
        if waiting:
          where = old[s.key].comment
          for w, following in zip(waiting, [*waiting[1:], s]):
            self.edits.append(Edit(where, where, [
                *self._comments(w), *self._text(w),
                *self._blanks_before(following)]))
          waiting = []
        self._replace(old[s.key], s)
        anchor = max(old[s.key].end, head)
      elif anchor is None:
        waiting.append(s)
      else:
        self._insert_after(anchor, s)
    if waiting:
      anchor = _kin(waiting[0], list(old.values())) or base_body[-1].end_lineno
      for s in waiting:
        self._insert_after(anchor, s)

  def _insert_after(self, line: int, s: Statement):
    self.edits.append(Edit(line, line, [
        *self._blanks_before(s), *self._comments(s), *self._text(s)]))

  def _blanks_before(self, s: Statement) -> list[str]:
    at = s.start - len(self._comments(s))
    blanks = 0
    while not self.mirror_lines[at - 1 - blanks].strip():
      blanks += 1
    return [""] * max(blanks, 1)

  def _replace(self, old: Statement, new: Statement):
    if ast.dump(old.node) == ast.dump(new.node):
      return
    if isinstance(old.node, ast.ClassDef):
      self.merge_body(old.node.body, new.node.body)
      return
    self.replaced.append(old.key)
    comments = self._comments(new)
    start = old.comment if comments else old.start
    self.edits.append(Edit(start, old.end, [
        *comments, *self._text(new, keep_docstring_of=old.node)]))

  def _text(self, s: Statement, keep_docstring_of: ast.stmt | None = None):
    lines = self.mirror_lines[s.start:s.end]
    if isinstance(s.node, ast.FunctionDef) and not ast.get_docstring(s.node):
      match keep_docstring_of:
        case ast.FunctionDef(body=[ast.Expr(value=ast.Constant(str())) as doc,
                                   *_]):
          at = s.node.body[0].lineno - 1 - s.start
          lines[at:at] = self.base_lines[doc.lineno - 1:doc.end_lineno]
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


def _is_definition(s: Statement, body: list[ast.stmt]) -> bool:
  # Of the other calls only those that set a rule of what the file defines.
  if isinstance(s.node, ast.Assign) and "." in s.key:
    return False  # An edited expression.
  if not isinstance(s.node, ast.Expr):
    return True
  root = s.key.partition(".")[0].removesuffix("()")
  return any(key_of(n) in (f"def {root}", f"{root} =") for n in body)


def _kin(s: Statement, candidates: list[Statement]) -> int | None:
  # The end of the last definition whose name starts with the same words: of the
  # tests of the same function, mostly.
  words = s.key.split("_")
  best, best_end = 1, None
  for c in candidates:
    common = 0
    for a, b in zip(words, c.key.split("_")):
      if a != b:
        break
      common += 1
    if common > best or (common == best and best_end is not None):
      best, best_end = common, c.end
  return best_end


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
