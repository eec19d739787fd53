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

from collections.abc import Callable, Sequence
import types
from typing import Any
import warnings

import numpy as np

from jax._src import core
from jax._src import linear_util as lu
from jax._src import literals
from jax._src import traceback_util
from jax._src.api_util import debug_info, flatten_fun
from jax._src.interpreters import partial_eval as pe
from jax._src.state.types import AbstractRef
from jax._src.tree_util import (
    keystr, Partial, PyTreeDef, tree_flatten, tree_flatten_with_path,
    tree_leaves, tree_unflatten)
from jax._src.util import (
    safe_map, safe_zip, split_list, weakref_lru_cache)
from jax_patch.jaxpr_key import closure_key


traceback_util.register_exclusion(__file__)

map = safe_map
zip = safe_zip


### Closure conversion

def closure_convert(fun: Callable, *example_args, **example_kwargs
                    ) -> tuple[Callable, list[Any]]:
  """Makes the values that a function captures its explicit arguments.

  A rule given to :func:`jax.custom_vjp` or :func:`jax.custom_jvp` sees the
  arguments of the function that it differentiates. It does not see what a
  Python function among them captured. Closure conversion makes these values
  arguments, too.

  ``fun`` is traced on arguments of the example types. Every tracer that it
  meets is hoisted once, whatever its dtype and transformation. Concrete arrays
  take no part in differentiation and stay in the converted function.

  Example usage, for a root of ``f`` and its derivative by the implicit function
  theorem::

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
  dtype ``float0``. A rule that does arithmetic on them has to leave those out.

  Converted functions of the same program and constants are equal, so that they
  are one function to ``static_argnums`` and ``nondiff_argnums``.

  Args:
    fun: Callable to be converted. It must be pure.
    *example_args: Pytrees of arrays, scalars or :class:`jax.ShapeDtypeStruct`,
      which give the types of the positional arguments of ``fun``.
    **example_kwargs: The same for its keyword arguments.

  Returns:
    A pair of ``converted_fun`` and the list ``aux_args`` of hoisted values.
    ``converted_fun(*args, *aux_args, **kwargs)`` computes what ``fun(*args,
    **kwargs)`` does. It warns at other shapes and dtypes than the example's.

  Raises:
    TypeError: If a leaf of the example arguments is not a valid JAX type, or if
      the converted function is called with arguments of another structure, or
      with hoisted values of another number or type.
  """
  return _closure_convert(_ConvertedFunction, fun, example_args, example_kwargs)

def closure_to_pytree(fun: Callable, *example_args, **example_kwargs
                      ) -> Partial:
  """Makes a function a pytree of the values that it captures.

  Its leaves are all arrays that ``fun`` captures, also concrete ones. So it can
  be an argument of transformed functions. Functions that differ in the
  values of those arrays alone have the same treedef, and what was compiled for
  one serves all:

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
  code, values = _closure_convert(_FunctionOfValues, fun, example_args,
                                  example_kwargs)
  return Partial(code, values)

_NUMPY_ARRAYS = np.ndarray, literals.TypedNdArray

def _closure_convert(cls, fun, args, kwargs):
  in_flat, in_tree = tree_flatten((args, kwargs))
  in_avals = tuple(map(core.typeof, in_flat))
  known = _conversions(fun, cls, in_tree, in_avals)
  if not known:
    debug = debug_info("closure_convert", fun, args, kwargs)
    flat_fun, out_tree = flatten_fun(lu.wrap_init(fun, debug_info=debug),
                                     in_tree)
    jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(flat_fun, in_avals)
    jaxpr = pe.convert_constvars_jaxpr(jaxpr) if consts else jaxpr
    # The trace refers to NumPy arrays of the caller, which can change.
    consts = [np.array(c) if isinstance(c, _NUMPY_ARRAYS) else c
              for c in consts]
    converted = cls(jaxpr, consts, in_tree, out_tree())
    hoisted = [c for c in consts if cls.is_hoisted(c)]
    if any(isinstance(c, core.Tracer) for c in consts):
      known = []
    known.append((converted, hoisted))
  converted, hoisted = known[0]
  return converted, list(hoisted)

def _conversions(fun, *key):
  # Other callables could compare equal and yet capture other values.
  is_function = type(fun) is types.FunctionType
  return _conversions_of(fun, *key) if is_function else []

@weakref_lru_cache
def _conversions_of(fun, cls, in_tree, in_avals):
  # Holds what a function was converted to, if it captured no tracer.
  return []

class _ConvertedFunction:
  # Refers neither to what was converted nor to the hoisted values.
  @staticmethod
  def is_hoisted(const):
    return isinstance(const, core.Tracer)

  def __init__(self, jaxpr: core.Jaxpr, consts: Sequence[Any],
               in_tree: PyTreeDef, out_tree: PyTreeDef):
    self._jaxpr = jaxpr
    # None stands for a hoisted value.
    self._consts = [None if self.is_hoisted(c) else c for c in consts]
    self._in_tree = in_tree
    self._out_tree = out_tree
    self.__name__ = self.__qualname__ = jaxpr.debug_info.func_name
    # Made now, because a NumPy array that it depends on can change.
    self._key = closure_key(jaxpr, self._consts, in_tree, out_tree,
                            self.__name__)

  def __hash__(self):
    return hash(self._key)

  def __eq__(self, other):
    return type(self) is type(other) and self._key is other._key

  def __repr__(self):
    return f"closure_convert({self._jaxpr.debug_info.func_src_info})"

  def __deepcopy__(self, memo):
    return self

  def __call__(self, *args, **kwargs):
    num_args = max(len(args) - sum(c is None for c in self._consts), 0)
    return self.eval(*split_list(args, [num_args]), kwargs)

  def eval(self, args, hoisted, kwargs, warn=True):
    const_avals, in_avals = split_list(
        self._jaxpr.in_avals, [len(self._consts)])
    hoisted_avals = [a for a, c in zip(const_avals, self._consts) if c is None]
    in_flat, in_tree = tree_flatten((tuple(args), kwargs))
    if in_tree != self._in_tree or len(hoisted) != len(hoisted_avals):
      raise TypeError(
          "The inputs to the closure produced by closure_convert must have the "
          f"structure {self._in_tree} of the example arguments, followed by "
          f"{len(hoisted_avals)} hoisted value(s), but got {in_tree} followed "
          f"by {len(hoisted)}.")
    if other := _other_types(("aux_args",), (hoisted,), hoisted_avals):
      raise TypeError("The inputs to the closure produced by closure_convert "
                      f"must have the types of what was hoisted, but {other}.")
    if warn and (
        other := _other_types(("args", "kwargs"), (args, kwargs), in_avals)):
      # See https://github.com/jax-ml/jax/issues/6867
      warnings.warn(
          f"In a call of {self!r}, {other}. This evaluates the program that "
          "was traced for the example arguments, which can be wrong at other "
          "types, and will become an error. Convert the function for the types "
          "that it is called with.", FutureWarning, stacklevel=3)
    hoisted = iter(hoisted)
    consts = [next(hoisted) if c is None else c for c in self._consts]
    out_flat = core.eval_jaxpr(self._jaxpr, (), *consts, *in_flat)
    return tree_unflatten(self._out_tree, out_flat)

def _other_types(names, trees, avals):
  # Says which of the leaves are not of the shapes and dtypes in `avals`.
  types_ = map(core.typeof, tree_leaves(trees))
  is_other = lambda t, a: (
      t is not a and (t.shape, t.dtype) != (a.shape, a.dtype))
  if not any(map(is_other, types_, avals)):
    return ""
  paths, _ = tree_flatten_with_path(trees)
  return " and ".join(
      f"{names[path[0].idx]}{keystr(path[1:])} is of type {t.str_short()} "
      f"instead of {a.str_short()}"
      for (path, _), t, a in zip(paths, types_, avals) if is_other(t, a))

class _FunctionOfValues(_ConvertedFunction):
  # What `closure_to_pytree` makes a `Partial` over the list of all captured
  # values. No rule can have a mutable array as a residual, so it stays inside.
  @staticmethod
  def is_hoisted(const):
    is_ref = isinstance(core.typeof(const), AbstractRef)
    return not is_ref or isinstance(const, core.Tracer)

  def __call__(self, values, *args, **kwargs):
    return self.eval(args, values, kwargs)
