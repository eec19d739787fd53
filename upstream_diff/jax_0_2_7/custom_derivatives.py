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

from typing import Any, Callable, List, Tuple
import weakref

from . import core
from . import linear_util as lu
from .api_util import flatten_fun
from .core import raise_to_shaped
from .custom_derivatives import _initial_style_jaxpr
from .tree_util import tree_flatten, tree_unflatten


def closure_convert(fun: Callable, *example_args, **example_kwargs
                    ) -> Tuple[Callable, List[Any]]:
  """Makes the values that a function captures its explicit arguments.

  A rule given to :func:`jax.custom_vjp` or :func:`jax.custom_jvp` sees the
  formal arguments of the function that it differentiates, and nothing else. A
  solver that takes a Python function, an objective or a residual or a vector
  field, therefore cannot differentiate with respect to what that function
  captured. Closure conversion pulls those values out. They then cross the
  boundary of the custom rule like any other argument.

  *Captured* means used in a computation while ``fun`` runs on arguments of the
  example types. What Python records in ``fun.__closure__`` plays no role: a
  value reached through a global, an attribute, or the closure of a function
  that ``fun`` calls counts just the same.

  Every captured value that a transformation is tracing is hoisted, whatever its
  dtype, each once. Arrays that nothing traces stay inside the converted
  function as constants.

  Example usage. The root ``x`` of ``f(x, *aux) = 0`` depends on the hoisted
  values ``aux`` by the implicit function theorem::

    from functools import partial
    import jax
    import jax.numpy as jnp

    def root(f, x0):
      f_converted, aux = jax.closure_convert(f, x0)
      return _root(f_converted, x0, *aux)

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def _root(f, x0, *aux):
      def newton(_, x):
        return x - f(x, *aux) / jax.grad(f)(x, *aux)
      return jax.lax.fori_loop(0, 20, newton, x0)

    def _root_fwd(f, x0, *aux):
      x = _root(f, x0, *aux)
      return x, (x, aux)

    def _root_bwd(f, residuals, x_bar):
      x, aux = residuals
      _, vjp_aux = jax.vjp(lambda *aux: f(x, *aux), *aux)
      return jnp.zeros_like(x), *vjp_aux(-x_bar / jax.grad(f)(x, *aux))

    _root.defvjp(_root_fwd, _root_bwd)

    def sqrt(a):
      return root(lambda x: x ** 2 - a, 1.)

    jax.grad(sqrt)(9.)  # 1 / (2 sqrt(a)): 1/6

  A rule may return ``None`` for an integer or a boolean.

  Args:
    fun: Function to be converted. It must be pure.
    *example_args: Arrays, scalars, or (nested) standard Python containers
      thereof, of which only structures, shapes and dtypes matter: the types of
      the positional arguments of ``fun``.
    **example_kwargs: The same for the keyword arguments of ``fun``.

  Returns:
    A pair ``(converted_fun, aux_args)``. ``aux_args`` is the list of hoisted
    values. ``converted_fun(*args, *aux_args, **kwargs)`` computes
    ``fun(*args, **kwargs)`` and captures no traced value.

  Raises:
    TypeError: If a leaf of the example arguments is not a valid JAX type. The
      converted function raises it for arguments of another structure, shape or
      dtype than that of the example, or a wrong number of hoisted values.

  See https://github.com/google/jax/issues/5222, which asked for this function.
  """
  flat_args, in_tree = tree_flatten((example_args, example_kwargs))
  in_avals = tuple(raise_to_shaped(core.get_aval(x)) for x in flat_args)
  # A function that compares by identity need not be traced again, if what it
  # captured is constant. Tracers must not be kept alive.
  ty = type(fun)
  by_identity = (ty.__eq__ is object.__eq__ and ty.__weakrefoffset__ != 0 and
                 ty.__hash__ is object.__hash__)
  known = _converted.setdefault(fun, {}) if by_identity else {}
  key = in_tree, in_avals
  if key in known:
    return known[key], []
  flat_fun, out_tree = flatten_fun(lu.wrap_init(fun), in_tree)
  jaxpr, consts = _initial_style_jaxpr(flat_fun, in_avals)
  is_traced = [isinstance(c, core.Tracer) for c in consts]
  hoisted = [c for c, traced in zip(consts, is_traced) if traced]
  kept = [None if traced else c for c, traced in zip(consts, is_traced)]
  converted_fun = _call_converted(
      jaxpr, kept, is_traced, in_tree, in_avals, out_tree())
  if not hoisted:
    known[key] = converted_fun
  return converted_fun, hoisted

_converted = weakref.WeakKeyDictionary()  # type: ignore

def _call_converted(jaxpr, kept, is_traced, in_tree, in_avals, out_tree):
  num_hoisted = sum(is_traced)

  def converted_fun(*args_hoisted, **kwargs):
    num_args = len(args_hoisted) - num_hoisted
    args, hoisted = args_hoisted[:num_args], args_hoisted[num_args:]
    flat_args, in_tree2 = tree_flatten((args, kwargs))
    avals = [raise_to_shaped(core.get_aval(x)) for x in flat_args]
    types = [(a.shape, a.dtype) for a in avals]
    expected = [(a.shape, a.dtype) for a in in_avals]
    if num_args < 0 or in_tree != in_tree2 or types != expected:
      raise TypeError(
          "The inputs to the closure produced by closure_convert do not match "
          f"the example arguments: expected {in_tree} of {expected} and "
          f"{num_hoisted} hoisted value(s), but got {in_tree2} of {types} and "
          f"{len(hoisted)} hoisted value(s)")
    values = iter(hoisted)
    consts = [next(values) if traced else c
              for c, traced in zip(kept, is_traced)]
    out_flat = core.eval_jaxpr(jaxpr, consts, *flat_args)
    return tree_unflatten(out_tree, out_flat)

  return converted_fun
