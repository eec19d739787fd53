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

"""A mirror file as it is after the first patches of the series.

It is the whole mirror without what belongs to later patches, so that the last
stage is the mirror itself, and no definition has an intermediate form.
"""

import ast

from upstream_diff import series
from upstream_diff.merge import (
    apply_edits, cut_out, Edit, Statement, statements, tree_of)


def mirror_at(path: str, text: str, stage: int) -> str | None:
  """Returns the mirror of an upstream file after the first `stage` patches.

  Args:
    path: of the upstream file.
    text: the mirror.
    stage: how many patches have been applied.

  Returns:
    The mirror's text, or None if it has no definition then.
  """
  is_later = lambda name: (series.owner(path, name) or 0) > stage
  text = _without_parts(text, is_later)
  kept = _needed(path, text, is_later)
  left_out = [s for s in statements(text, tree_of(text).body)
              if name_of(s) not in kept]
  if stage == len(series.PATCHES):
    if lost := [s.node.name for s in left_out if hasattr(s.node, "name")]:
      raise AssertionError(f"{lost} of {path} should belong to a patch")
    return text
  for s in reversed(left_out):
    text = cut_out(text, s, detached=True)
  return text if kept else None


def name_of(s: Statement) -> str:
  """What the table calls a statement."""
  return s.key.removesuffix("()").removesuffix(" =").rpartition(" ")[2]


def _without_parts(text: str, is_later) -> str:
  # Without the methods, assignments and paragraphs of later patches.
  edits = []
  lines = text.splitlines()

  def visit(node, prefix):
    parts = {f"{prefix}/{name_of(s)}": s for s in statements(text, node.body)}
    # Tests are listed without their class.
    gone = [name for name, s in parts.items()
            if is_later(name) or has_tests(node) and is_later(name_of(s))]
    if has_tests(node) and len(gone) == len(parts):
      edits.append(Edit(parts[gone[0]].start, parts[gone[-1]].end, ["  pass"]))
      return
    for name, s in parts.items():
      if name in gone:
        blank = not lines[s.comment - 1].strip()
        edits.append(Edit(s.comment - blank, s.end, []))
      elif isinstance(s.node, (ast.ClassDef, ast.FunctionDef)):
        visit(s.node, name)
    if doc := isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
      for paragraph in doc.split("\n\n"):
        words = {w.strip("`.,") for w in paragraph.split()}
        if any(is_later(f"{prefix}/doc:{word}") for word in words):
          first, *rest = paragraph.splitlines()
          start = next(i for i in range(node.lineno, node.end_lineno)
                       if lines[i].strip() == first.strip())
          edits.append(Edit(start, start + len(rest) + 2, []))

  for s in statements(text, tree_of(text).body):
    if isinstance(s.node, (ast.ClassDef, ast.FunctionDef)):
      visit(s.node, name_of(s))
  return apply_edits(text, edits)


def _needed(path: str, text: str, is_later) -> set[str]:
  # The listed definitions and test classes, and what they refer to.
  body = {name_of(s): s.node for s in statements(text, tree_of(text).body)}
  todo = [name for name, node in body.items() if not is_later(name) and (
      series.owner(path, name) is not None or has_tests(node))]
  kept = set()
  while todo:
    name = todo.pop()
    if name in kept or is_later(name):
      continue
    kept.add(name)
    names = _names(body[name])
    todo += [n for n, node in body.items()
             if n in names or _is_rule_of(name, n, node)]
  return kept


def has_tests(node: ast.stmt) -> bool:
  return isinstance(node, ast.ClassDef) and any(
      getattr(n, "name", "").startswith("test") for n in node.body)


def _names(node: ast.stmt) -> set[str]:
  return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _is_rule_of(name: str, other: str, node: ast.stmt) -> bool:
  # `f.defvjp(fwd, bwd)`, or a function that is decorated with `f.defjvp`.
  return other.partition(".")[0] == name or any(
      isinstance(d, ast.Attribute) and name in _names(d)
      for d in getattr(node, "decorator_list", ()))
