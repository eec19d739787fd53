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
import functools
import types
from typing import Any
import weakref

import numpy as np

from jax._src import config
from jax._src import core
from jax._src import flattree as ft
from jax._src.api_util import debug_info
from jax._src.interpreters import partial_eval as pe
from jax._src.lib import _jax
from jax._src.tree_util import (
    all_leaves, tracing_registry, tree_flatten, tree_unflatten)
from jax._src.util import (
    merge_lists, partition_list, safe_map, safe_zip, split_list)
from jax_patch.custom_derivatives import (
    _conversion_cache, _warn_of_other_types)
from jax_patch.hashable_array import FrozenArray
from jax_patch.jaxpr_key import jaxpr_key

map = safe_map
zip = safe_zip


def closure_convert(fun: Callable, *example_args, **example_kwargs
                    ) -> tuple[Callable, list[Any]]:
  """
  Args:
    example_kwargs: The same for the keyword arguments of ``fun``.
  """
  flat_args, in_tree = tracing_registry.flatten((example_args, example_kwargs))
  in_avals = tuple(map(core.typeof, flat_args))
  called = fun
  while type(called) is functools.partial:
    called = called.func
  # Other callables can have state, and a method is a new object at each access.
  cached = []
  if not config.check_tracer_leaks.value and type(called) in (
      types.FunctionType, _jax.PjitFunction):
    code = getattr(called, "__code__", None)  # which a reload replaces
    cached = _conversion_cache(fun, code, in_tree, in_avals)
  converted_fun, hoisted, arrays = cached or (None, [], [])
  if converted_fun is None or any(copy != x for x, copy in arrays):
    debug = debug_info("closure_convert", fun, example_args, example_kwargs)
    converted_fun, hoisted, arrays = _closure_convert_for_avals(
        fun, in_tree, in_avals, debug)
    if not hoisted:  # A cache must not keep tracers.
      cached[:] = converted_fun, hoisted, arrays
  return converted_fun, hoisted

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

  def converted_fun(*args, **kwargs):
    if any(copy != x for x, copy in key.arrays):
      key.function = lambda: None  # The next conversion makes another one.
    args, const_args = split_list(args, [len(args) - num_consts])
    all_args, in_tree2 = tree_flatten((tuple(args), kwargs))
    if (in_tree != in_tree2 or len(const_args) != num_consts
        or not all_leaves(const_args)):
      num_args = len(in_tree.children()[0].children())
      msg = ("The inputs to the closure produced by closure_convert must have "
             "the same Pytree structure as the example arguments passed when "
             f"closure_convert was called. Expected {in_tree}, but got "
             f"{in_tree2}. It takes {num_args} argument(s) and {num_consts} "
             f"hoisted value(s), but got {len(args) + len(const_args)} in all.")
      raise TypeError(msg)
    values = [*merge_lists(is_hoisted, closure_consts, const_args), *all_args]
    _warn_of_other_types(jaxpr, is_hoisted, values)
    out_flat = core.eval_jaxpr(jaxpr, (), *values)
    return tree_unflatten(out_tree, out_flat)

  converted_fun.__name__ = converted_fun.__qualname__ = debug_info.func_name
  # There is one function for a key, so that caches know it by its identity.
  if (fun := key.function()) is None:
    key.function = weakref.ref(fun := converted_fun)
  return fun, const_args, arrays + key.arrays
