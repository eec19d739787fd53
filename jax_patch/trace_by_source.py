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

"""Tracing a closure once for all closures that the same code makes.

What such closures captured is made abstract before the function is traced. If
that succeeds, nothing in the trace depends on the values, and it serves every
closure of that source over values of the same types, which then costs no trace.
In every other case, and whenever there is doubt, the function is traced as it
is.
"""

from collections.abc import Callable, Hashable
import struct
from typing import Any

from jax._src import config
from jax._src import core
from jax._src import traceback_util
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import tree_structure, tree_unflatten, PyTreeDef
from jax._src.util import safe_map, safe_zip, split_list
from jax_patch import const_free
from jax_patch import function_tree
from jax_patch import structural_key


traceback_util.register_exclusion(__file__)

map = safe_map
zip = safe_zip

# For each source and types: the code, where each of its constants is found, and
# the constants that it wrote out itself. None if the source cannot be made
# abstract.
_templates: dict[Hashable, tuple | None] = {}
# For each source and types: the floats first seen, how often others were, and
# which of them are arguments by now.
_seen_floats: dict[Hashable, tuple[tuple[float, ...], int, frozenset[int]]] = {}
_MAX_SIZE = 4096

def trace_by_source(fun: Callable, in_tree: PyTreeDef,
                    in_avals: tuple[core.AbstractValue, ...]
                    ) -> tuple[const_free.ConstFreeFunction, list[Any]]:
  """Does what :func:`const_free.trace_inlining` does, mostly without tracing.

  A Python float that a closure captures is part of its program, at first. When
  it has changed twice, it becomes an argument, like an array of a weak type.
  """
  try:
    tree = function_tree.flatten_function(fun)
    leaf_avals = tuple(map(core.typeof, tree.leaves))
  except (function_tree.NotUnderstood, TypeError):
    return const_free.trace_inlining(fun, in_tree, in_avals)
  if len(_templates) > _MAX_SIZE or len(_seen_floats) > _MAX_SIZE:
    _templates.clear()
    _seen_floats.clear()
  source = (tree.structure, leaf_avals, in_tree, in_avals,
            config.trace_context())
  bits = [struct.pack("d", x) for x in tree.floats]
  lifted = _lifted_floats(source, tree.floats, bits) if bits else frozenset()
  key = (source, lifted,
         tuple(b for i, b in enumerate(bits) if i not in lifted))
  if key not in _templates:
    _templates[key] = _trace_template(fun, tree, lifted, in_tree, in_avals)
    if lifted and _templates[key] is None:
      _seen_floats[source] = (tree.floats, -1, frozenset())  # Never again.
  if (template := _templates[key]) is None:
    return const_free.trace_inlining(fun, in_tree, in_avals)
  code, places, written_out = template
  captured = [*tree.leaves, *tree.floats]
  return code, [*written_out, *[captured[i] for i in places]]

def _lifted_floats(source, floats, bits) -> frozenset[int]:
  first, misses, lifted = _seen_floats.setdefault(
      source, (floats, 0, frozenset()))
  changed = {i for i, (x, b) in enumerate(zip(first, bits))
             if struct.pack("d", x) != b}
  if misses >= 0 and not changed <= lifted:
    misses += 1
    if misses > 1:
      lifted |= changed
    _seen_floats[source] = (first, misses, lifted)
  return lifted

def _trace_template(fun, tree, lifted, in_tree, in_avals):
  captured = [*tree.leaves, *[tree.floats[i] for i in sorted(lifted)]]
  num_leaves, num_captured = len(tree.leaves), len(captured)

  def abstracted(captured, args, kwargs):
    lifted_values = iter(captured[num_leaves:])
    floats = [next(lifted_values) if i in lifted else x
              for i, x in enumerate(tree.floats)]
    rebuilt = function_tree.rebuild_function(
        fun, captured[:num_leaves], floats)
    return rebuilt(*args, **kwargs)

  abstracted.__wrapped__ = fun  # Gives it its name.
  args, kwargs = tree_unflatten(in_tree, in_avals)
  try:
    code, written_out = const_free.trace_inlining(
        abstracted, tree_structure(((captured, args, kwargs), {})),
        (*map(core.typeof, captured), *in_avals))
  except Exception:
    return None  # It looks at a value, or is at fault: not for us to tell.
  if code.jaxpr.effects or not structural_key.is_self_contained(
      code.jaxpr, written_out):
    return None

  # Drop what is captured and not used: it would be differentiated for nothing.
  jaxpr = pe.convert_constvars_jaxpr(code.jaxpr)
  used = {v for eqn in jaxpr.eqns for v in eqn.invars
          if isinstance(v, core.Var)}
  used.update(v for v in jaxpr.outvars if isinstance(v, core.Var))
  const_vars, captured_vars, arg_vars = split_list(
      jaxpr.invars, [len(written_out), num_captured])
  keep = [i for i, v in enumerate(captured_vars) if v in used]
  jaxpr = jaxpr.replace(
      invars=[*const_vars, *[captured_vars[i] for i in keep], *arg_vars],
      debug_info=jaxpr.debug_info.with_unknown_names())
  # Places count all floats, the lifted ones and the others.
  places = [i if i < num_leaves else num_leaves + sorted(lifted)[i - num_leaves]
            for i in keep]
  code = const_free.ConstFreeFunction(
      jaxpr, len(written_out) + len(keep), in_tree, in_avals, code.out_tree)
  return code, places, written_out
