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
import warnings
import weakref

import numpy as np

from jax._src import config
from jax._src import core
from jax._src import flattree as ft
from jax._src import traceback_util
from jax._src.api_util import debug_info
from jax._src.interpreters import partial_eval as pe
from jax._src.lib import _jax
from jax._src.tree_util import (
    all_leaves, Partial, tracing_registry, tree_flatten, tree_unflatten)
from jax._src.util import (
    merge_lists, partition_list, safe_map, safe_zip, split_list,
    weakref_lru_cache)
from jax_patch.hashable_array import FrozenArray
from jax_patch.jaxpr_key import jaxpr_key


traceback_util.register_exclusion(__file__)

map = safe_map
zip = safe_zip


### Closure conversion

def closure_convert(fun: Callable, *example_args, **example_kwargs
                    ) -> tuple[Callable, list[Any]]:
  """For example, this is a root of ``f`` by Newton's method, with its derivative
  by the implicit function theorem::

    def root(f, x0):
      f_converted, aux = jax.closure_convert(f, x0)
      return _root(f_converted, x0, *aux)

    def _newton(f, x0, *aux):
      def step(_, x):
        return x - jnp.linalg.solve(jax.jacobian(f)(x, *aux), f(x, *aux))
      return jax.lax.fori_loop(0, 20, step, x0)

    _root = jax.custom_vjp(_newton, nondiff_argnums=(0,))

    def _root_fwd(f, x0, *aux):
      x = _root(f, x0, *aux)
      return x, (x, aux)

    def _root_bwd(f, residuals, x_bar):
      x, aux = residuals
      adjoint = jnp.linalg.solve(jax.jacobian(f)(x, *aux).T, -x_bar)
      _, vjp_aux = jax.vjp(lambda *aux: f(x, *aux), *aux)
      return jnp.zeros_like(x), *vjp_aux(adjoint)

    _root.defvjp(_root_fwd, _root_bwd)

    def loss(a):
      return root(lambda x: x ** 2 - a, jnp.ones(2)).sum()

    jax.grad(loss)(jnp.array([4., 9.]))  # 1 / (2 sqrt(a)): [1/4, 1/6]

  The same with a forward rule, which has derivatives of every order::

    _root = jax.custom_jvp(_newton, nondiff_argnums=(0,))

    @_root.defjvp
    def _root_jvp(f, primals, tangents):
      x = _root(f, *primals)
      aux, aux_dot = primals[1:], tangents[1:]
      _, f_dot = jax.jvp(lambda *aux: f(x, *aux), aux, aux_dot)
      return x, -jnp.linalg.solve(jax.jacobian(f)(x, *aux), f_dot)

  Tangents and cotangents of hoisted integers, booleans and PRNG keys are of
  dtype ``float0``. A rule that does arithmetic on them has to leave those out,
  and one that ravels all hoisted values, or takes their norm, has to select the
  inexact ones first.

  Args:
    example_kwargs: The same for the keyword arguments of ``fun``.
  """
  return _closure_convert(fun, example_args, example_kwargs)

def closure_to_pytree(fun: Callable, *example_args, **example_kwargs
                      ) -> Partial:
  """Makes a function a pytree of the values that it captures.

  Its leaves are the arrays that ``fun`` captures, also concrete ones. Functions
  that differ in the values of those arrays alone have the same treedef, and what
  was compiled for one serves all:

  >>> import jax
  >>> import jax.numpy as jnp
  >>> def line(slope):
  ...   return jax.custom_derivatives.closure_to_pytree(lambda x: slope * x, 1.)
  >>> call_at_two = jax.jit(lambda f: f(2.))
  >>> print(call_at_two(line(jnp.array(3.))))
  6.0
  >>> print(call_at_two(line(jnp.array(4.))))  # compiles nothing
  8.0

  Args:
    fun, example_args, example_kwargs: As for :func:`jax.closure_convert`.

  Returns:
    A :class:`jax.tree_util.Partial` that computes ``fun``. It raises what a
    converted function of :func:`jax.closure_convert` raises.

  See https://github.com/jax-ml/jax/pull/5244.
  """
  return Partial(*_closure_convert(
      fun, example_args, example_kwargs, to_pytree=True))

def _closure_convert(fun, args, kwargs, to_pytree=False, warn=True):
  in_flat, in_tree = tracing_registry.flatten((args, kwargs))
  in_avals = tuple(map(core.typeof, in_flat))
  called = fun
  while type(called) is functools.partial:
    called = called.func
  # Other callables can have state, and a method is a new object at each access.
  cached = []
  if not config.check_tracer_leaks.value and type(called) in (
      types.FunctionType, _jax.PjitFunction):
    code = getattr(called, "__code__", None)  # which a reload replaces
    cached = _conversion_cache(fun, code, in_tree, in_avals, to_pytree, warn)
  converted, hoisted, arrays = cached or (None, [], [])
  if converted is None or any(copy != x for x, copy in arrays):
    debug = debug_info("closure_convert", fun, args, kwargs)
    converted, hoisted, arrays = _closure_convert_for_avals(
        fun, in_tree, in_avals, debug, to_pytree, warn)
    if not any(isinstance(x, core.Tracer) for x in hoisted):
      cached[:] = converted, hoisted, arrays
  return converted, list(hoisted)

def _closure_convert_for_avals(fun, in_tree, in_avals, debug_info, to_pytree, warn):
  # Only constants that are inputs of the jaxpr can be hoisted.
  with config.use_simplified_jaxpr_constants(False):
    closed_jaxpr, out_avals = pe.trace_to_jaxpr_nocache(
        fun, ft.treedef_args_to_ft(in_tree, in_avals), debug_info)
  jaxpr, consts = pe.separate_consts(closed_jaxpr)
  out_tree = out_avals.tree

  # Only what is traced can take part in differentiation.
  # See https://github.com/jax-ml/jax/issues/6415 for motivation.
  is_hoisted = [isinstance(c, core.Tracer) or
                to_pytree and not isinstance(c, core.Ref) for c in consts]
  # The owner of a NumPy array can change it.
  frozen = [FrozenArray(c) if isinstance(c, np.ndarray) else c for c in consts]
  arrays = [(c, f) for c, f in zip(consts, frozen) if f is not c]
  consts = [c if f is c else f.val for c, f in zip(consts, frozen)]
  closure_consts, const_args = partition_list(is_hoisted, consts)
  num_consts = len(const_args)
  key = jaxpr_key(jaxpr, is_hoisted, partition_list(is_hoisted, frozen)[0],
                  in_tree, out_tree, debug_info.func_name, to_pytree, warn)

  def converted_fun(*args, **kwargs):
    if any(copy != x for x, copy in key.arrays):
      key.function = lambda: None  # The next conversion makes another one.
    if to_pytree:
      const_args, *args = args
    else:
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
    if warn:
      _warn_of_other_types(jaxpr, is_hoisted, values)
    out_flat = core.eval_jaxpr(jaxpr, (), *values)
    return tree_unflatten(out_tree, out_flat)

  converted_fun.__name__ = converted_fun.__qualname__ = debug_info.func_name
  # There is one function for a key, so that caches know it by its identity.
  if (fun := key.function()) is None:
    key.function = weakref.ref(fun := converted_fun)
  return fun, const_args, arrays + key.arrays

# An entry is a list, which holds the conversion once it is made.
_conversion_cache = weakref_lru_cache(lambda *_: [])

def _warn_of_other_types(jaxpr, is_hoisted, values):
  # See https://github.com/jax-ml/jax/issues/6867
  type_of = lambda t: (getattr(t, "shape", t), getattr(t, "dtype", t))
  names = jaxpr.debug_info.safe_arg_names(len(values))
  _, is_used = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  changed = [
      f"{name or f'hoisted value {sum(is_hoisted[:i])}'} is of type "
      f"{core.typeof(x).str_short()} instead of {v.aval.str_short()}"
      for i, (name, x, v) in enumerate(zip(names, values, jaxpr.invars))
      if is_used[i] and type_of(core.typeof(x)) != type_of(v.aval)]
  if changed:
    warnings.warn(
        f"In a call of {jaxpr.debug_info.func_src_info}, {' and '.join(changed)}"
        ". This evaluates the program that was traced for the example arguments, "
        "which can be wrong at other types, and will become an error. Convert "
        "the function for these types.", FutureWarning, stacklevel=3)
