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

"""The mutants of the mirrors: operators of cosmic-ray, and two of our own.

The mirrors build tuples and pass keyword arguments more than they compare or
compute, and cosmic-ray has no operator for those. ``DropItem`` leaves out one
item of a tuple, list, set or dict, or one keyword argument. ``DropStatement``
leaves out one statement.
"""

import ast
import dataclasses
import difflib
import hashlib
import pathlib
import re

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from parso.python import tree

FILES = ("jax_patch/custom_derivatives.py", "jax_patch/hashable_array.py",
         "jax_patch/jaxpr_key.py", "jax_patch/experimental/ode.py")
# One or two replacements for each operator of Python.
OPERATORS = """
    AddNot NumberReplacer RemoveDecorator ZeroIterationForLoop
    ReplaceAndWithOr ReplaceOrWithAnd ReplaceFalseWithTrue ReplaceTrueWithFalse
    ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_FloorDiv_Mul
    ReplaceBinaryOperator_Sub_Add ReplaceComparisonOperator_Eq_NotEq
    ReplaceComparisonOperator_IsNot_Is ReplaceComparisonOperator_Is_IsNot
    ReplaceComparisonOperator_LtE_Eq ReplaceComparisonOperator_LtE_Gt
    ReplaceComparisonOperator_NotEq_Eq ReplaceUnaryOperator_Delete_Not
    ReplaceUnaryOperator_Delete_USub""".split()
# Mutants that prove nothing, by their operator and line.
LEFT_OUT = [
    # A tuple that is unpacked at once: any other length raises.
    ("DropItem",
     r"flatten\(|rest = |arrays = |setdefault|enumerate\(|itemgetter|lax\.scan|"
     r"return (converted|fun|flat|ys|\(|t_bar)|\(y0, time|, t\[0\]|\(ts, args|"
     r"custom_vjp_primal|\(ys\[i\]|init_carry = |(key|self)\.held, |arrays\.append"),
    ("NumberReplacer", "static_argnums"),  # DropItem does it.
    # Any sample will do for a hash, so a mutant with another one is equivalent.
    (".*", r"size // 64"),
]


class DropItem(Operator):
  """Leaves out one item of a display, or one keyword argument."""

  TYPES = "testlist_comp", "testlist_star_expr", "testlist", "dictorsetmaker"

  def _items(self, node):
    if node.type == "trailer" and node.children[1].type == "argument":
      return [[node.children[1]]]  # the only argument of a call
    if node.type not in (*self.TYPES, "arglist") or any(
        c.type == "sync_comp_for" for c in node.children):
      return []
    if node.parent.type == "expr_stmt" and node is not node.parent.children[-1]:
      return []  # the target of an assignment
    items = [[]]
    for child in node.children:
      if child == ",":
        items.append([])
      else:
        items[-1].append(child)
    return [item for item in items if item]

  def _places(self, node):
    return [i for i, (child, *_) in enumerate(self._items(node))
            if node.type in self.TYPES or child.type == "argument"
            and child.children[0].type == "name" and child.children[1] == "="]

  def mutation_positions(self, node):
    items = self._items(node)
    return [(items[i][0].start_pos, items[i][-1].end_pos)
            for i in self._places(node)]

  def mutate(self, node, index):
    items = self._items(node)
    del items[self._places(node)[index]]
    if node.type == "trailer":
      node.children = [node.children[0], node.children[-1]]
    else:  # The last comma makes one item a tuple, too.
      node.children = [
          c for item in items for c in (*item, tree.Operator(",", (0, 0)))]
    return node

  @classmethod
  def examples(cls):
    return ()


class DropStatement(Operator):
  """Leaves out a call, or an assignment without which the names are defined."""

  def mutation_positions(self, node):
    if node.type != "simple_stmt" or node.children[0].type not in (
        "atom_expr", "expr_stmt"):
      return
    statement = node.children[0]
    if statement.type == "expr_stmt":
      targets = [n.value for n in statement.get_defined_names()]
      value = statement.children[-1].get_code()
      if "." not in statement.children[0].get_code(False) and not all(
          re.search(rf"\b{t}\b", value) for t in targets):
        return
    yield statement.start_pos, statement.end_pos

  def mutate(self, node, index):
    prefix = node.get_first_leaf().prefix
    node.children[0] = tree.Keyword("pass", node.start_pos, prefix)
    return node

  @classmethod
  def examples(cls):
    return ()


@dataclasses.dataclass(frozen=True)
class Mutant:
  id: str  # the same while the lines around it are
  file: str
  line: int
  operator: str
  diff: str
  code: str = dataclasses.field(repr=False)


def mutants(root: pathlib.Path) -> list[Mutant]:
  operators = {name: plugins.get_operator(f"core/{name}")()
               for name in OPERATORS}
  operators |= {"DropItem": DropItem(), "DropStatement": DropStatement()}
  found = {}
  for file in FILES:
    source = (root / file).read_text()
    programs = {_normalized(source)}
    for name, operator in operators.items():
      places = [start for node in ast_nodes(get_ast(source))
                for start, _ in operator.mutation_positions(node)]
      for i, (line, _) in enumerate(places):
        code = mutate_code(source, operator, i)
        program = _normalized(code)
        text = source.splitlines()[line - 1]
        if program is None or program in programs or any(
            re.fullmatch(operator_, name) and re.search(line_, text)
            for operator_, line_ in LEFT_OUT):
          continue
        programs.add(program)
        lines = list(difflib.unified_diff(
            source.splitlines(), code.splitlines(), n=2, lineterm=""))[2:]
        key = [file, *[l for l in lines if not l.startswith("@@")]]
        id = hashlib.sha1("\n".join(key).encode()).hexdigest()[:8]
        diff = "\n".join(l for l in lines if l[0] in "+-")
        assert id not in found, found[id]
        found[id] = Mutant(id, file, line, name, diff, code)
  return list(found.values())


class _Inverted(ast.NodeTransformer):
  """Writes ``not a is b`` as ``a is not b``, and ``not not a`` as ``a``."""

  PAIRS = {ast.Is: ast.IsNot, ast.In: ast.NotIn, ast.Eq: ast.NotEq}
  PAIRS |= {v: k for k, v in PAIRS.items()}

  def visit_UnaryOp(self, node):
    self.generic_visit(node)
    match node:
      case ast.UnaryOp(ast.Not(), ast.Compare(left, [op], right)):
        if type(op) in self.PAIRS:
          return ast.Compare(left, [self.PAIRS[type(op)]()], right)
      case ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), x)):
        return x
    return node


def _normalized(code):
  try:
    return ast.unparse(_Inverted().visit(ast.parse(code)))
  except SyntaxError:  # ``not`` in front of ``x := y``
    return None


if __name__ == "__main__":
  for m in mutants(pathlib.Path(__file__).resolve().parent.parent):
    print(f"{m.file}:{m.line} {m.operator} {m.id}\n{m.diff}")
