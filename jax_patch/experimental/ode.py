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
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import core
from jax._src import custom_derivatives
from jax._src.interpreters import partial_eval as pe
from jax.experimental.ode import _odeint
from jax._src.util import merge_lists, partition_list, safe_map, safe_zip
from jax.flatten_util import ravel_pytree
from jax.tree_util import (
    Partial, tree_flatten, tree_leaves, tree_map, tree_unflatten)
from jax_patch._edit import edited

map = safe_map
zip = safe_zip


def odeint(func, y0, t, *args, rtol=1.4e-8, atol=1.4e-8, mxstep=jnp.inf, hmax=jnp.inf):
  for arg in tree_leaves(args):
    if not (isinstance(arg, core.Tracer) or core.valid_jaxtype(arg)):
      raise TypeError(
        f"The contents of odeint *args must be arrays or scalars, but got {arg}.")
  if not jnp.issubdtype(getattr(t, "dtype", object), jnp.floating):
    raise TypeError(f"t must be an array of floats, but got {t}.")
  if t.ndim != 1 or core.definitely_equal(t.size, 0):
    raise ValueError("t must be a one-dimensional array of at least one time, "
                     f"but is of shape {t.shape}.")

  # Passing the closure as a pytree argument lets jit reuse one compilation.
  ts = core.typeof(t)
  time = t[0] if ts.manual_axis_type.varying else jax.ShapeDtypeStruct(
      ts.shape[1:], ts.dtype, weak_type=ts.weak_type)
  # The solver may compute in types of more precision than those of y0 and t.
  convert = lambda **kwargs: custom_derivatives._closure_convert(
      func, (y0, time, *args), {}, warn=False, **kwargs)
  closure = Partial(*convert(to_pytree=True))
  values, tree = tree_flatten((y0, t, args, closure))
  if any(core.typeof(x).manual_axis_type.varying for x in values):
    # In shard_map, all that the loops carry must vary over the same axes.
    y0, t, args, _ = tree_unflatten(tree, core.auto_insert_reshard(*values))
    func, time = _hoist_casts(func, y0, t[0], *args), t[0]
    closure = Partial(*convert(to_pytree=True))
  traced = [x for x in tree_leaves(closure) if isinstance(x, core.Tracer)]
  if _committed_devices(closure) - _committed_devices((y0, t, args, traced)):
    # Captured arrays must not choose the devices, and constants do not.
    converted, consts = convert()
    return _odeint_wrapper(converted, rtol, atol, mxstep, hmax, y0, t, *args, *consts)
  return _odeint_wrapper(_call_closure, rtol, atol, mxstep, hmax, y0, t, closure, *args)

def _hoist_casts(func, *args):
  # Transposing a cast sums over devices, whose loops differ in length. So casts
  # of captured values, and what they depend on, are computed before the loops.
  jaxpr = jax.make_jaxpr(lambda y, t, *args: core.auto_insert_reshard(
      t, *tree_leaves(func(y, t, *args)))[1:])(*args)
  known, unknown, *_ = pe.partial_eval_jaxpr_custom(
      jaxpr.jaxpr, [True] * len(jaxpr.in_avals), True, True, True, None)
  residuals = core.eval_jaxpr(known, jaxpr.consts)
  unknown, _ = pe.dce_jaxpr(unknown, [True] * len(unknown.outvars), True)
  return lambda *args: core.eval_jaxpr(
      unknown, jaxpr.consts, *residuals, *tree_leaves(args))

def _committed_devices(tree):
  return {x.sharding._device_assignment
          for x in map(core.get_referent, tree_leaves(tree))
          if isinstance(x, jax.Array) and not isinstance(x, core.Tracer)
          and x.committed and x.is_fully_addressable}

def _call_closure(y, t, closure, *args):
  return closure(y, t, *args)

def _ravel(tree):
  if len(tree_leaves(tree)) == 1:
    return ravel_pytree(tree)
  # XLA's CPU backend can confuse the operands that it fuses with a concatenation,
  # such as the cotangents of two arrays that func indexes.
  barrier = partial(tree_map, lax.optimization_barrier)
  flat, unravel = ravel_pytree(barrier(tree))
  return flat, lambda x: barrier(unravel(x))

@jax.jit(static_argnums=(0, 1, 2, 3, 4))
@jax.default_matmul_precision("highest")
def _odeint_wrapper(func: Callable, rtol, atol, mxstep, hmax, y0, ts, *args):
  y0, unravel = _ravel(y0)
  args, args_tree = tree_flatten(args)
  def flat_func(y, t, *args):
    y_dot = func(unravel(y), t, *tree_unflatten(args_tree, args))
    y_dot, _ = _ravel(y_dot)
    return y_dot
  out = _odeint(flat_func, rtol, atol, mxstep, hmax, y0, ts, *args)
  return jax.vmap(unravel)(out)

def _odeint_fwd(func, rtol, atol, mxstep, hmax, y0, *ts_args):
  y0, *values = custom_derivatives.custom_vjp_primal_tree_values((y0, *ts_args))
  ys = _odeint(func, rtol, atol, mxstep, hmax, y0, *values)
  # JAX takes the residuals of one derivative of a jitted call for those of
  # another. So what to differentiate is encoded in shapes, and the structure of
  # the residuals is the same for all.
  diff = [jnp.zeros(int(x.perturbed and jnp.issubdtype(v.dtype, jnp.inexact)))
          for x, v in zip(ts_args, values)]
  return ys, (ys, values, diff)

@jax.default_matmul_precision("highest")
def _odeint_rev(func, rtol, atol, mxstep, hmax, res, g):
  ys, (ts, *args), diff = res
  is_diff = [x.size > 0 for x in diff]  # of the times and of each argument

  def aug_dynamics(augmented_state, neg_t, *args):
    """Original system augmented with vjp_y and vjp_diff."""
    y, y_bar, _ = augmented_state
    nondiff, diff = partition_list(is_diff, [-neg_t, *args])
    y_dot, vjp_fun = jax.vjp(
        lambda y, diff: func(y, *merge_lists(is_diff, nondiff, diff)), y, diff)
    return -y_dot, *vjp_fun(y_bar)

  def scan_fun(carry, i):
    y_bar, diff_bar = carry
    t_bar = None
    if is_diff[0]:
      # Compute effect of moving measurement time, which is not complex
      t_bar = jnp.dot(func(ys[i], ts[i], *args), g[i]).real.astype(ts.dtype)
      diff_bar = [diff_bar[0] - t_bar, *diff_bar[1:]]
    state = odeint(
        aug_dynamics, (ys[i], y_bar, diff_bar), jnp.array([-ts[i], -ts[i - 1]]),
        *args, rtol=rtol, atol=atol, mxstep=mxstep, hmax=hmax)
    _, y_bar, diff_bar = tree_map(lambda x: x[1], state)
    return (y_bar + g[i - 1], diff_bar), t_bar

  _, diff = partition_list(is_diff, [ts[0], *args])
  (y_bar, diff_bar), rev_ts_bar = lax.scan(
      scan_fun, (g[-1], tree_map(jnp.zeros_like, diff)),
      jnp.arange(len(ts) - 1, 0, -1))
  if is_diff[0]:
    t0_bar, *args_bar = diff_bar
    diff_bar = [jnp.concatenate([t0_bar[None], rev_ts_bar[::-1]]), *args_bar]
  return y_bar, *merge_lists(
      is_diff, [None] * (len(is_diff) - len(diff_bar)), diff_bar)

_odeint.fun = edited(
    _odeint, "[0] + carry",
    "[core.auto_insert_reshard(0, target_t)[0]] + carry").fun
_odeint.defvjp(_odeint_fwd, _odeint_rev, symbolic_zeros=True)
