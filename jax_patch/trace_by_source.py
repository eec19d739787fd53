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

from collections.abc import Callable, Collection, Hashable
import itertools
import struct
from typing import Any

import numpy as np

from jax._src import config
from jax._src import core
from jax._src import dtypes
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
# For each source or program, and types: the floats first seen, how often others
# were, and which of them are arguments by now.
_seen_floats: dict[Hashable, tuple[list[bytes], int, frozenset[int]]] = {}
_MAX_SIZE = 4096

def trace_by_source(fun: Callable, in_tree: PyTreeDef,
                    in_avals: tuple[core.AbstractValue, ...]
                    ) -> tuple[const_free.ConstFreeFunction, list[Any]]:
  """Does what :func:`const_free.trace_inlining` does, mostly without tracing.

  A Python float that a closure captures is part of its program, at first. When
  it has changed twice, it becomes an argument, like an array of a weak type.
  """
  if len(_templates) > _MAX_SIZE or len(_seen_floats) > _MAX_SIZE:
    _templates.clear()
    _seen_floats.clear()
  try:
    tree = function_tree.flatten_function(fun)
    leaf_avals = tuple(map(core.typeof, tree.leaves))
  except (function_tree.NotUnderstood, TypeError):
    return _lift_literals(*const_free.trace_inlining(fun, in_tree, in_avals))
  source = (tree.structure, leaf_avals, in_tree, in_avals,
            config.trace_context())
  bits = [struct.pack("d", x) for x in tree.floats]
  lifted = _lifted_floats(source, bits) if bits else frozenset()
  key = (source, lifted,
         tuple(b for i, b in enumerate(bits) if i not in lifted))
  if key not in _templates:
    _templates[key] = _trace_template(fun, tree, lifted, in_tree, in_avals)
    if lifted and _templates[key] is None:
      _seen_floats[source] = (bits, -1, frozenset())  # Never again.
  if (template := _templates[key]) is None:
    return const_free.trace_inlining(fun, in_tree, in_avals)
  code, places, written_out = template
  captured = [*tree.leaves, *tree.floats]
  return code, [*written_out, *[captured[i] for i in places]]

def _lifted_floats(source: Hashable, bits: list[bytes]) -> frozenset[int]:
  first, misses, lifted = _seen_floats.setdefault(
      source, (bits, 0, frozenset()))
  changed = {i for i, (x, y) in enumerate(zip(first, bits)) if x != y}
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

# A closure whose source is not understood, over an object of a class say, has
# the floats that it came by in its program.

def _lift_literals(code: const_free.ConstFreeFunction, consts: list[Any]
                   ) -> tuple[const_free.ConstFreeFunction, list[Any]]:
  floats = [a for eqn in code.jaxpr.eqns for a in eqn.invars if _is_float(a)]
  # What is seen is kept, and may keep no arrays alive.
  if not floats or not structural_key.is_self_contained(code.jaxpr, ()):
    return code, consts
  program = (_with_arguments(code, range(len(floats))), config.trace_context())
  bits = [np.asarray(a.val).tobytes() for a in floats]
  lifted = _lifted_floats(program, bits)
  return _with_arguments(code, lifted), [
      *consts, *[floats[i].val for i in sorted(lifted)]]

def _is_float(a: core.Var | core.Literal) -> bool:
  return (isinstance(a, core.Literal) and type(a.aval) is core.ShapedArray and
          not a.aval.shape and dtypes.issubdtype(a.aval.dtype, np.inexact) and
          core.typeof(a.val) == a.aval)

def _with_arguments(code: const_free.ConstFreeFunction,
                    lifted: Collection[int]) -> const_free.ConstFreeFunction:
  # Makes some of the floats in a program arguments, after its constants.
  if not lifted:
    return code
  jaxpr = pe.convert_constvars_jaxpr(code.jaxpr)
  consts, args = split_list(jaxpr.invars, [code.num_consts])
  number = itertools.count()
  added = []
  def lift(a):
    if _is_float(a) and next(number) in lifted:
      added.append(core.Var(a.aval))
      return added[-1]
    return a
  eqns = [eqn.replace(invars=map(lift, eqn.invars)) for eqn in jaxpr.eqns]
  jaxpr = jaxpr.replace(
      invars=[*consts, *added, *args], eqns=eqns,
      debug_info=jaxpr.debug_info.with_unknown_names())
  return const_free.ConstFreeFunction(
      jaxpr, code.num_consts + len(added), code.in_tree, code.in_avals,
      code.out_tree)
