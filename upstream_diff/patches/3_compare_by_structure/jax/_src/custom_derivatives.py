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


from collections.abc import Callable
from typing import Any
import weakref

import numpy as np

from jax._src import core
from jax._src import flattree as ft
from jax._src.api_util import debug_info
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import tracing_registry, tree_flatten, tree_unflatten
from jax._src.util import (
    merge_lists, partition_list, safe_map, safe_zip, split_list,
    weakref_lru_cache)
from jax_patch.hashable_array import FrozenArray
from jax_patch.jaxpr_key import jaxpr_key

map = safe_map
zip = safe_zip


def closure_convert(fun: Callable, *example_args) -> tuple[Callable, list[Any]]:
  flat_args, in_tree = tracing_registry.flatten((example_args, {}))
  in_avals = tuple(map(core.typeof, flat_args))
  debug = debug_info("closure_convert", fun, example_args, {})
  convert = lambda: _closure_convert_for_avals(fun, in_tree, in_avals, debug)
  converted_fun, hoisted, arrays = convert()
  if any(copy != x for x, copy in arrays):
    _closure_convert_for_avals.evict_weakref(fun)
    converted_fun, hoisted, _ = convert()
  if hoisted:  # A cache must not keep tracers.
    _closure_convert_for_avals.evict_weakref(fun)
  return converted_fun, hoisted

@weakref_lru_cache
def _closure_convert_for_avals(fun, in_tree, in_avals,
                               debug_info: core.DebugInfo):
  closed_jaxpr, out_avals = pe.trace_to_jaxpr_nocache(
      fun, ft.treedef_args_to_ft(in_tree, in_avals), debug_info)
  jaxpr, consts = pe.separate_consts(closed_jaxpr)
  out_tree = out_avals.tree

  # Only what is traced can take part in differentiation.
  # See https://github.com/jax-ml/jax/issues/6415 for motivation.
  is_hoisted = [isinstance(c, core.Tracer) for c in consts]
  # The owner of a NumPy array can change it.
  frozen = [FrozenArray(c) if isinstance(c, np.ndarray) else c for c in consts]
  arrays = [(c, f) for c, f in zip(consts, frozen) if f is not c]
  consts = [c if f is c else f.val for c, f in zip(consts, frozen)]
  closure_consts, const_args = partition_list(is_hoisted, consts)
  num_consts = len(const_args)
  key = jaxpr_key(jaxpr, is_hoisted, partition_list(is_hoisted, frozen)[0],
                  in_tree, out_tree, debug_info.func_name)

  def converted_fun(*args_hconsts):
    if any(copy != x for x, copy in key.arrays):
      key.function = lambda: None  # The next conversion makes another one.
    num_args = len(args_hconsts) - num_consts
    args, const_args = split_list(args_hconsts, [num_args])
    consts = merge_lists(is_hoisted, closure_consts, const_args)
    all_args, in_tree2 = tree_flatten((tuple(args), {}))
    if in_tree != in_tree2:
      msg = ("The inputs to the closure produced by closure_convert must have "
             "the same Pytree structure as the example arguments passed when "
             f"closure_convert was called. Expected {in_tree}, but got "
             f"{in_tree2}")
      raise TypeError(msg)
    out_flat = core.eval_jaxpr(jaxpr, (), *consts, *all_args)
    return tree_unflatten(out_tree, out_flat)

  converted_fun.__name__ = converted_fun.__qualname__ = debug_info.func_name
  # There is one function for a key, so that caches know it by its identity.
  if (fun := key.function()) is None:
    key.function = weakref.ref(fun := converted_fun)
  return fun, const_args, arrays + key.arrays
