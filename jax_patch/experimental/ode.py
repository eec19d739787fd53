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

import jax
import jax.numpy as jnp
from jax import custom_derivatives
from jax import lax
from jax._src import core
from jax._src.state.types import AbstractRef
from jax._src.util import safe_map, safe_zip
from jax.experimental.ode import _odeint
from jax.flatten_util import ravel_pytree
from jax.tree_util import (
    keystr, tree_flatten, tree_leaves, tree_leaves_with_path, tree_map,
    tree_unflatten)
from jax_patch.const_free import hoist_consts
from jax_patch.trace_by_source import trace_by_source

map = safe_map
zip = safe_zip


def odeint(func, y0, t, *args, rtol=1.4e-8, atol=1.4e-8, mxstep=jnp.inf,
           hmax=jnp.inf):
  """Integrates ``dy/dt = func(y, t, *args)`` by adaptive Runge-Kutta steps.

  The method is Dormand and Prince's, of order 5 with an embedded estimate of
  order 4. Reverse-mode derivatives, of any order, come from the adjoint
  equation, integrated backward in time; there is no forward mode. They are
  taken with respect to the state, the times, the arguments, and whatever
  ``func`` captures. Arguments and captured values may be of any dtype,
  integers, booleans and PRNG keys included. Only those that are differentiated
  add to the adjoint equation.

  Args:
    func: the time derivative of the state, called as ``func(y, t, *args)``. It
      returns the structure, shapes and dtypes of ``y0``. Lists and tuples may
      stand for one another, a list may spell out the rows of an array, and a
      weakly typed value, such as a Python scalar, takes the dtype of the state.
    y0: initial state, a pytree of floating-point or complex arrays.
    t: times at which to evaluate the solution, strictly increasing, the first
      being that of ``y0``: a one-dimensional array or a list of real numbers.
      They are converted to a floating-point dtype of at least the precision
      of ``float32`` and of the state.
    *args: further arguments of ``func``, pytrees of arrays and scalars.
    rtol: float, relative local error tolerance.
    atol: float, absolute local error tolerance.
    mxstep: int, the most steps to take between two times.
    hmax: float, the largest step to take.

  Returns:
    The solution at each of the times: a pytree like ``y0``, each of whose
    leaves has a new leading axis of length ``len(t)``.

  Raises:
    TypeError: If a leaf of ``y0`` is not an inexact array or scalar, ``t`` is
      not real, a leaf of ``args`` is not an array or scalar, or ``func``
      returns something else than the time derivative of such a state.
    ValueError: If ``t`` is not one-dimensional or has no elements.
  """
  for name, tree in ("y0", y0), ("args", args):
    for path, x in tree_leaves_with_path(tree):
      if not (isinstance(x, core.Tracer) or core.valid_jaxtype(x)):
        raise TypeError(f"The contents of odeint {name} must be arrays or "
                        f"scalars, but got {x} for {name}{keystr(path)}.")
      if name == "y0" and not jnp.issubdtype(core.typeof(x).dtype, jnp.inexact):
        raise TypeError("odeint integrates floating-point or complex states, "
                        f"but y0{keystr(path)} is of type {core.typeof(x)}.")
  # A weakly typed state would be another type than what `func` is called with.
  y0 = tree_map(lambda y: lax.convert_element_type(y, core.typeof(y).dtype), y0)
  t = _canonicalize_times(t, y0)

  converted, consts = hoist_consts(
      func, (y0, jax.ShapeDtypeStruct((), t.dtype), *args), {}, trace_by_source)
  y0_avals = tree_map(core.typeof, y0)
  if not _is_like(converted.out_avals, y0_avals):
    expected, got = (tree_map(lambda aval: aval.str_short(), avals)
                     for avals in (y0_avals, converted.out_avals))
    raise TypeError(
        "odeint func must return the time derivative of the state, in the "
        f"structure, shapes and dtypes of y0. Expected {expected}, but got "
        f"{got}.")
  if any(isinstance(core.typeof(c), AbstractRef) for c in consts):
    # References can be no residuals, so they stay captured.
    converted, consts = custom_derivatives.closure_convert(
        func, y0, t[0], *args)
  return _odeint_wrapper(converted, rtol, atol, mxstep, hmax, y0, t, *args,
                         *consts)

def _canonicalize_times(t, y0):
  try:
    t = jnp.asarray(t)
  except TypeError as e:
    raise TypeError(f"odeint t must be an array of floats, but got {t}.") from e
  if jnp.issubdtype(t.dtype, jnp.integer):
    t = t.astype(float)
  elif not jnp.issubdtype(t.dtype, jnp.floating):
    raise TypeError(f"odeint t must be an array of floats, but got {t}.")
  if t.ndim != 1 or not t.size:
    raise ValueError("odeint t must be a one-dimensional array of at least one "
                     f"time, but got an array of shape {t.shape}.")
  # Time must resolve the steps that the error control of the state asks for.
  dtypes = [t.dtype, jnp.dtype('float32'),
            *(jnp.finfo(y.dtype).dtype for y in tree_leaves(y0))]
  return lax.convert_element_type(t, max(dtypes, key=lambda d: d.itemsize))

def _is_like(out, y):
  # Whether `out` can be the derivative of `y`, both pytrees of avals.
  if isinstance(out, (list, tuple)) or isinstance(y, (list, tuple)):
    out, y = _rows(out), _rows(y)
    return (isinstance(out, (list, tuple)) and isinstance(y, (list, tuple)) and
            len(out) == len(y) and all(map(_is_like, out, y)))
  out_leaves, out_tree = tree_flatten(out)
  y_leaves, y_tree = tree_flatten(y)
  is_complex = lambda aval: jnp.issubdtype(aval.dtype, jnp.complexfloating)
  return out_tree == y_tree and all(
      o.shape == y.shape and
      (o.dtype == y.dtype or o.weak_type and is_complex(o) <= is_complex(y))
      for o, y in zip(out_leaves, y_leaves))

def _rows(x):
  if isinstance(x, core.ShapedArray) and x.ndim:
    return [x.update(shape=x.shape[1:])] * x.shape[0]
  return x

@jax.jit(static_argnums=(0, 1, 2, 3, 4))
@jax.default_matmul_precision("highest")
def _odeint_wrapper(func: Callable, rtol, atol, mxstep, hmax, y0, ts, *args):
  y0, unravel = ravel_pytree(y0)
  args, args_tree = tree_flatten(args)
  def flat_func(y, t, *args):
    y_dot = func(unravel(y), t, *tree_unflatten(args_tree, args))
    return ravel_pytree(y_dot)[0].astype(y.dtype)
  ys = _odeint(flat_func, rtol, atol, mxstep, hmax, y0, ts, *args)
  return jax.vmap(unravel)(ys)

def _odeint_fwd(func, rtol, atol, mxstep, hmax, y0, *ts_args):
  values = [x.value for x in ts_args]
  ys = _odeint(func, rtol, atol, mxstep, hmax, y0.value, *values)
  # What is differentiated and what is not go separate ways, each with None in
  # the place of the other.
  wrt = [x.perturbed and jnp.issubdtype(x.value.dtype, jnp.inexact)
         for x in ts_args]
  diff = [x if w else None for x, w in zip(values, wrt)]
  nondiff = [None if w else x for x, w in zip(values, wrt)]
  return ys, (ys, diff, nondiff)

def _merge(diff, nondiff):
  return [n if d is None else d for d, n in zip(diff, nondiff)]

@jax.default_matmul_precision("highest")
def _odeint_rev(func, rtol, atol, mxstep, hmax, res, g):
  ys, (diff_ts, *diff_args), (nondiff_ts, *nondiff_args) = res
  if isinstance(g, custom_derivatives.SymbolicZero):
    return (None,) * (2 + len(diff_args))
  ts, *args = _merge([diff_ts, *diff_args], [nondiff_ts, *nondiff_args])

  def aug_dynamics(augmented_state, neg_t, diff_args, nondiff_args):
    # The original system, augmented with the cotangents of the state and of
    # what is differentiated. Time runs backward here, hence the signs.
    y, y_bar, _ = augmented_state
    t = -neg_t
    diff, nondiff = ([t, None] if diff_ts is not None else [None, t])
    y_dot, vjp_fun = jax.vjp(
        lambda y, diff: func(y, *_merge(diff, [nondiff, *nondiff_args])),
        y, [diff, *diff_args])
    return -y_dot, *vjp_fun(y_bar)

  def scan_fun(carry, i):
    y_bar, diff_bar = carry
    t_bar = None
    if diff_ts is not None:
      # The effect of moving the time of this output. It is not complex, even
      # where the state is.
      t_bar = jnp.dot(func(ys[i], ts[i], *args), g[i]).real.astype(ts.dtype)
      diff_bar = [diff_bar[0] - t_bar, *diff_bar[1:]]
    # Integrate back to the output before.
    state = odeint(
        aug_dynamics, (ys[i], y_bar, diff_bar),
        jnp.array([-ts[i], -ts[i - 1]]), diff_args, nondiff_args,
        rtol=rtol, atol=atol, mxstep=mxstep, hmax=hmax)
    _, y_bar, diff_bar = tree_map(lambda x: x[1], state)
    return (y_bar + g[i - 1], diff_bar), t_bar

  diff = [None if diff_ts is None else ts[0], *diff_args]
  (y_bar, diff_bar), ts_bar = lax.scan(
      scan_fun, (g[-1], tree_map(jnp.zeros_like, diff)),
      jnp.arange(len(ts) - 1, 0, -1))
  t0_bar, *args_bar = diff_bar
  if diff_ts is not None:
    ts_bar = jnp.concatenate([t0_bar[None], ts_bar[::-1]])
  return (y_bar, ts_bar, *args_bar)

_odeint.defvjp(_odeint_fwd, _odeint_rev, symbolic_zeros=True)
