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
import contextlib
from functools import cached_property
import struct
from typing import Any
import weakref

from jax._src import config
from jax._src import core
from jax._src import traceback_util
from jax._src.state.types import AbstractRef
from jax._src.tree_util import register_pytree_node_class
from jax._src.util import safe_map, safe_zip
from jax_patch import jaxpr_pickle
from jax_patch import structural_key
from jax_patch.const_free import (
    bad_inputs, check_hoisted, ConstFreeFunction, flatten_args, hoist_consts,
    mismatch, trace)
from jax_patch.function_tree import flatten_function, NotUnderstood
from jax_patch.trace_by_source import trace_by_source


traceback_util.register_exclusion(__file__)

map = safe_map
zip = safe_zip


### Closure conversion

def closure_convert(fun: Callable, *example_args, **example_kwargs
                    ) -> tuple[Callable, list[Any]]:
  """Makes the values that a function captures its explicit arguments.

  A rule given to :func:`jax.custom_vjp` or :func:`jax.custom_jvp` sees the
  formal arguments of the function that it differentiates, and nothing else. A
  solver that takes a Python function, an objective or a residual or a vector
  field, therefore cannot differentiate with respect to what that function
  captured; worse, a captured value that belongs to a surrounding
  transformation is no longer usable by the time that the rule runs. Closure
  conversion pulls those values out. They then cross the boundary of the custom
  rule like any other argument.

  *Captured* means used in a computation while ``fun`` runs on arguments of the
  example types. What Python records in ``fun.__closure__`` plays no role: a
  value reached through a global, an attribute, or the closure of a function
  that ``fun`` calls counts just the same.

  Every captured value that a transformation is tracing (a
  :class:`jax.core.Tracer`) is hoisted, whatever its dtype: floating-point and
  complex values, but also integers, booleans and PRNG keys, and whether or not
  it is being differentiated. Each is hoisted once, however often it is used.
  Concrete arrays stay inside the converted function as constants, since they
  take no part in differentiation and outlive every transformation.

  Example usage, for reverse mode. The root ``x`` of ``f(x, *aux) = 0`` depends
  on the hoisted values ``aux`` by the implicit function theorem:
  ``dx = -(df/dx)^{-1} (df/daux) daux``::

    import functools
    import jax
    import jax.numpy as jnp

    def root(f, x0):
      f_converted, aux = jax.closure_convert(f, x0)
      return _root(f_converted, x0, *aux)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def _root(f, x0, *aux):
      def newton(_, x):
        return x - jnp.linalg.solve(jax.jacobian(f)(x, *aux), f(x, *aux))
      return jax.lax.fori_loop(0, 20, newton, x0)

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

  The same solver with a forward rule, which JAX can also transpose, so that it
  supports both modes and derivatives of every order::

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def _root(f, x0, *aux):
      def newton(_, x):
        return x - jnp.linalg.solve(jax.jacobian(f)(x, *aux), f(x, *aux))
      return jax.lax.fori_loop(0, 20, newton, x0)

    @_root.defjvp
    def _root_jvp(f, primals, tangents):
      x = _root(f, *primals)
      aux, aux_dot = primals[1:], tangents[1:]
      _, f_dot = jax.jvp(lambda *aux: f(x, *aux), aux, aux_dot)
      return x, -jnp.linalg.solve(jax.jacobian(f)(x, *aux), f_dot)

  **Integers in a rule.** A ``custom_jvp`` rule receives a tangent of dtype
  ``float0`` for each hoisted integer, boolean or PRNG key, which is what
  :func:`jax.jvp` wants for them. A ``custom_vjp`` rule may return ``None``,
  zeros, or the ``float0`` array that :func:`jax.vjp` produces: JAX disregards
  what is returned for such an argument. Arithmetic on those cotangents is an
  error, so a rule that combines them should select the inexact values first.

  **Other types.** The converted function may be called with arguments of other
  shapes or dtypes than it was converted for. It then converts ``fun`` again
  for the new types, which requires that whatever tracers ``fun`` captures
  there were hoisted at the example types too. A weakly typed argument of the
  right dtype is no other type.

  Args:
    fun: Function to be converted. It must be pure. Any callable will do.
    *example_args: Pytrees of arrays, NumPy arrays, Python scalars or
      :class:`jax.ShapeDtypeStruct`\\ s, of which only structures, shapes and
      dtypes matter: the types of the positional arguments of ``fun``.
    **example_kwargs: The same for the keyword arguments of ``fun``.

  Returns:
    A pair ``(converted_fun, aux_args)``. ``aux_args`` is the list of hoisted
    values. ``converted_fun(*args, *aux_args, **kwargs)`` computes
    ``fun(*args, **kwargs)`` and captures no tracer.

  Raises:
    TypeError: If a leaf of the example arguments is not a valid JAX type, or
      ``fun`` captures a ``Ref`` that is being traced. The converted function
      raises it for arguments whose pytree structure is not that of the example
      arguments, for a wrong number of hoisted values or values of other types
      than were hoisted, and at other argument types if ``fun`` does not accept
      them or captures further tracers there.

  See https://github.com/jax-ml/jax/issues/5222, which asked for this function,
  and https://github.com/jax-ml/jax/pull/14760 for hoisting every dtype.
  """
  code, consts = hoist_consts(fun, example_args, example_kwargs)
  hoisted = [c for c in consts if isinstance(c, core.Tracer)]
  _check_no_refs(code, hoisted)
  return _ConvertedFunction(fun, code, consts), hoisted

def closure_to_pytree(fun: Callable, *example_args, **example_kwargs
                      ) -> Callable:
  """Makes a function a pytree, of the values that it captures.

  The function becomes a value like any other: an argument of a transformed
  function, differentiable, batched, carried through a loop. Its leaves are all
  the arrays that ``fun`` captures, in the sense of :func:`jax.closure_convert`,
  concrete ones included. Everything else about it is part of its treedef, which
  compares by structure. Two functions written alike, that capture other values
  of the same types, are one type of argument, and what was compiled for one
  serves the other.

  For example:

  >>> import jax
  >>> import jax.numpy as jnp
  >>> from jax.custom_derivatives import closure_to_pytree

  >>> def line(slope):
  ...   return closure_to_pytree(lambda x: slope * x, 1.)

  >>> @jax.jit
  ... def call_at_two(f):
  ...   return f(2.)

  >>> print(call_at_two(line(jnp.array(3.))))
  6.0
  >>> print(call_at_two(line(jnp.array(4.))))  # compiles nothing
  8.0
  >>> print(*jax.tree.leaves(jax.grad(call_at_two)(line(jnp.array(3.)))))
  2.0

  Args:
    fun: Function to be converted. It must be pure. Any callable will do.
    *example_args: Pytrees of arrays, NumPy arrays, Python scalars or
      :class:`jax.ShapeDtypeStruct` instances: the types of the positional
      arguments of ``fun``.
    **example_kwargs: The same for the keyword arguments of ``fun``.

  Returns:
    A callable pytree that computes ``fun`` at arguments of the example types. A
    cotangent of it is a pytree of the same form. It can be pickled, and loaded
    by the same version of JAX, unless ``fun`` contains rules of custom
    derivatives or calls back into Python.

  Raises:
    TypeError: If a leaf of the example arguments is not a valid JAX type, or
      ``fun`` captures a ``Ref``. Calling the result raises it for arguments or
      leaves of other structures, shapes or dtypes.

  See https://github.com/jax-ml/jax/pull/5244, where this form was suggested.
  """
  code, consts = hoist_consts(fun, example_args, example_kwargs,
                              trace_by_source)
  _check_no_refs(code, consts)
  return _ClosurePytree(code, consts)

def _check_no_refs(code: ConstFreeFunction, hoisted: Sequence[Any]):
  for c in hoisted:
    if isinstance(core.typeof(c), AbstractRef):
      raise TypeError(
          "Closure conversion hoists values, but the function "
          f"{code.jaxpr.debug_info.func_src_info} captures a mutable reference "
          f"of type {core.typeof(c)}. Make it an argument of the function.")

@register_pytree_node_class
class _ClosurePytree:
  # What `closure_to_pytree` returns.

  def __init__(self, code: ConstFreeFunction, consts: Sequence[Any]):
    self._code = code
    self._consts = list(consts)

  def tree_flatten(self):
    # Treedefs hash without this, and are compared when something that the rules
    # of custom derivatives refer to may have changed.
    hash(self._code)
    return self._consts, self._code

  @classmethod
  def tree_unflatten(cls, code, consts):
    return cls(code, consts)

  def __repr__(self):
    name = self._code.jaxpr.debug_info.func_src_info
    return f"closure_to_pytree({name})({self._consts})"

  def __reduce__(self):
    return _ClosurePytree, (
        self._code, map(jaxpr_pickle.picklable, self._consts))

  def __call__(self, *args, **kwargs):
    code = self._code
    made_by = "closure_to_pytree"
    in_flat, _ = flatten_args(code.in_tree, 0, args, kwargs, made_by)
    in_avals = map(core.typeof, in_flat)
    if not all(map(core.typematch, code.in_avals, in_avals)):
      raise TypeError(f"{bad_inputs(made_by)}: "
                      f"{mismatch(code.in_tree, code.in_avals, in_avals)}")
    check_hoisted(code.const_avals, self._consts, made_by)
    return code.call_flat(self._consts, in_flat)

class _Peers:
  # What is known of functions that have compared equal, in a union-find forest.

  def __init__(self):
    self.parent = None
    self.size = 1
    self.at_other_types = False  # Some were called at other types.
    self.other_sources = False  # Some may differ there.

  def root(self):
    while self.parent is not None:
      self = self.parent
    return self

  def merge(self, other):
    # The smaller goes below the larger, so that the forest stays flat, and
    # functions that come and go leave nothing in it.
    if self is other:
      return self
    small, large = sorted((self, other), key=lambda peers: peers.size)
    small.parent = large
    large.size += small.size
    large.at_other_types |= small.at_other_types
    large.other_sources |= small.other_sources
    return large

class _ConvertedFunction:
  # What `closure_convert` returns: `fun` with the tracers that it captured made
  # arguments, and the concrete values that it captured kept.

  def __init__(self, fun: Callable, code: ConstFreeFunction,
               consts: Sequence[Any]):
    tracers = [c for c in consts if isinstance(c, core.Tracer)]
    self._code = code
    self._peers = _Peers()
    self._is_hoisted = [isinstance(c, core.Tracer) for c in consts]
    self._kept = [c for c in consts if not isinstance(c, core.Tracer)]
    self._hoisted = map(weakref.ref, tracers)
    self._hoisted_avals = map(core.typeof, tracers)
    self._merge_consts = self._make_merge(consts)
    self._at_other_types = {}
    if tracers and config.check_tracer_leaks.value:
      # The rules of a custom derivative outlive the trace around them, and so
      # does this object. Holding `fun` would be reported as a leak of what it
      # captured, though nothing but a call at other types ever looks at it.
      try:
        self._fun = weakref.ref(fun)
      except TypeError:
        self._fun = lambda: None
    else:
      self._fun = lambda: fun

  # Equal are functions that compute the same from the same hoisted values. At
  # the example types that shows. At other types it holds if both were made by
  # the same code from the same values, in short if their sources are equal. If
  # that cannot be told, they are equal as long as neither is called at other
  # types. A cache may then give one for the other, so that such a call later on
  # is an error, to them and to all that equal them.

  def __hash__(self):
    # Whoever keeps this hashes it, so now is when to look at what may change.
    self._source
    return hash((self._code, self._kept_key))

  def __eq__(self, other):
    if self is other:
      return True
    if not (isinstance(other, _ConvertedFunction) and
            self._is_hoisted == other._is_hoisted and
            (self._code is other._code or self._code == other._code and
             self._kept_key == other._kept_key)):
      return False
    same_source = self._code is other._code or self._source == other._source
    mine, others = self._peers.root(), other._peers.root()
    if not same_source and (mine.at_other_types or others.at_other_types):
      return False
    mine.merge(others).other_sources |= not same_source
    return True

  @cached_property
  def _kept_key(self):
    return tuple(map(structural_key.array_key, self._kept))

  @cached_property
  def _source(self):
    # Equal for functions made by the same code from the same values, with
    # tracers of the same types hoisted from the same places.
    place = {id(ref()): i for i, ref in enumerate(self._hoisted)}
    fun = self._fun()
    try:
      if fun is None:
        raise NotUnderstood(fun)
      tree = flatten_function(fun)
    except NotUnderstood:
      return object()
    return (tree.structure, struct.pack(f"{len(tree.floats)}d", *tree.floats),
            *[(core.typeof(x), place.get(id(x))) if isinstance(x, core.Tracer)
              else structural_key.array_key(x, max_host_bytes=256)
              for x in tree.leaves])

  def __repr__(self):
    return f"closure_convert({self._code.jaxpr.debug_info.func_src_info})"

  def __call__(self, *args_hoisted, **kwargs):
    in_flat, hoisted = flatten_args(
        self._code.in_tree, len(self._hoisted), args_hoisted, kwargs)
    check_hoisted(self._hoisted_avals, hoisted)
    in_avals = tuple(map(core.typeof, in_flat))
    if all(map(core.typematch, self._code.in_avals, in_avals)):
      code, merge_consts = self._code, self._merge_consts
    else:
      if in_avals not in self._at_other_types:
        self._at_other_types[in_avals] = self._convert_again(in_avals)
      code, merge_consts = self._at_other_types[in_avals]
    return code.call_flat(merge_consts(hoisted), in_flat)

  def _make_merge(self, consts: Sequence[Any]) -> Callable:
    # Splits `consts` into hoisted tracers, known by their place among those of
    # the first conversion, and constants. Returns a function that puts given
    # values in place of the former.
    place = {id(ref()): i for i, ref in enumerate(self._hoisted)}
    is_tracer = [isinstance(c, core.Tracer) for c in consts]
    values = [place[id(c)] if t else c for c, t in zip(consts, is_tracer)]
    def merge(hoisted):
      return [hoisted[v] if t else v for v, t in zip(values, is_tracer)]
    return merge

  def _convert_again(self, in_avals: tuple[core.AbstractValue, ...]
                     ) -> tuple[ConstFreeFunction, Callable]:
    # See https://github.com/jax-ml/jax/issues/6867.
    in_tree = self._code.in_tree
    try:
      fun = self._fun()
      if fun is None:
        raise TypeError("the function is gone, because closure_convert does "
                        "not keep it while tracer leaks are being checked")
      peers = self._peers.root()
      if peers.other_sources:
        raise TypeError("the function has compared equal to another, which is "
                        "alike at the example types and may not be at these")
      peers.at_other_types = True
      with _reuse_tracers([ref() for ref in self._hoisted]):
        code, consts = trace(fun, in_tree, in_avals)
      try:
        return code, self._make_merge(consts)
      except KeyError:
        raise TypeError("there the function captures tracers that it did not "
                        "capture at the example types") from None
    except Exception as e:
      raise TypeError(
          f"{bad_inputs()}: "
          f"{mismatch(in_tree, self._code.in_avals, in_avals)}, and the "
          "function could not be converted again for the new types: "
          f"{e}") from e

@contextlib.contextmanager
def _reuse_tracers(tracers: Sequence[core.Tracer | None]):
  # The rule of a custom derivative runs when the traces of what its function
  # captured may have ended, and JAX refuses to bind tracers of such a trace. To
  # trace the function again is sound all the same: those tracers only become
  # constants of the new jaxpr, and are then replaced by the hoisted values.
  ended = [t._trace for t in tracers
           if t is not None and not t._trace.is_valid()]
  for t in ended:
    t._invalidated = False
  try:
    yield
  finally:
    for t in ended:
      t._invalidated = True

