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
import operator as op

import jax
import jax.numpy as jnp
from jax import custom_derivatives
from jax import lax
from jax._src import core
from jax._src.interpreters import partial_eval as pe
from jax.experimental.ode import _odeint
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial, tree_leaves, tree_map
from jax_patch._edit import edited
from jax_patch.custom_derivatives import _closure_convert


def odeint(func, y0, t, *args, rtol=1.4e-8, atol=1.4e-8, mxstep=jnp.inf, hmax=jnp.inf):
  for arg in tree_leaves(args):
    if not core.valid_jaxtype(arg):
      raise TypeError(
        f"The contents of odeint *args must be arrays or scalars, but got {arg}.")
  if not jnp.issubdtype(getattr(t, "dtype", object), jnp.floating):
    raise TypeError(f"t must be an array of floats, but got {t}.")
  if t.ndim != 1 or core.definitely_equal(t.size, 0):
    raise ValueError("t must be a one-dimensional array of at least one time, "
                     f"but is of shape {t.shape}.")

  ts = core.typeof(t)
  time = t[0] if isinstance(t, core.Tracer) else jax.ShapeDtypeStruct(
      (), ts.dtype, weak_type=ts.weak_type)
  # The types in which the solver computes can be others than those of y0 and t
  convert = lambda **kwargs: _closure_convert(
      func, (y0, time, *args), {}, warn=False, **kwargs)
  # Passing the closure as a pytree argument lets jit reuse one compilation
  closure = Partial(*convert(to_pytree=True))
  values, tree = jax.tree.flatten((y0, t, args, closure))
  if any(core.typeof(x).manual_axis_type.varying for x in values):
    # In shard_map, all that the loops carry must vary over the same axes
    y0, t, args, _ = jax.tree.unflatten(tree, core.auto_insert_reshard(*values))
    func, time = _hoist_casts(func, y0, t[0], *args), t[0]
    closure = Partial(*convert(to_pytree=True))
  traced = [x for x in tree_leaves(closure) if isinstance(x, core.Tracer)]
  if _committed_devices(closure) - _committed_devices((y0, t, args, traced)):
    # Captured arrays must not choose the devices, and constants do not
    converted, consts = convert()
    return _odeint_wrapper(converted, rtol, atol, mxstep, hmax, y0, t, *args, *consts)
  return _odeint_wrapper(_call_closure, rtol, atol, mxstep, hmax, y0, t, closure, *args)

def _hoist_casts(func, *args):
  # Transposing a cast sums over devices, whose loops differ in length. So casts
  # of captured values, and what they depend on, are computed before the loops
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
  # XLA's CPU backend can confuse operands that it fuses with a concatenation
  barrier = partial(tree_map, lax.optimization_barrier)
  flat, unravel = ravel_pytree(barrier(tree))
  return flat, lambda x: barrier(unravel(x))

@jax.jit(static_argnums=(0, 1, 2, 3, 4))
@jax.default_matmul_precision("highest")
def _odeint_wrapper(func: Callable, rtol, atol, mxstep, hmax, y0, ts, *args):
  y0, unravel = _ravel(y0)
  flat_func = lambda y, t, *args: _ravel(func(unravel(y), t, *args))[0]
  out = _odeint(flat_func, rtol, atol, mxstep, hmax, y0, ts, *args)
  return jax.vmap(unravel)(out)

def _odeint_fwd(func, rtol, atol, mxstep, hmax, y0, ts, *args):
  # JAX takes the residuals of one derivative of a jitted call for those of
  # another, so only their shapes may say what is differentiated
  wrt = tree_map(lambda x: jnp.zeros(int(
      x.perturbed and jnp.issubdtype(x.value.dtype, jnp.inexact))), (ts, args))
  y0, ts, args = custom_derivatives.custom_vjp_primal_tree_values((y0, ts, args))
  ys = _odeint(func, rtol, atol, mxstep, hmax, y0, ts, *args)
  return ys, (ys, ts, args, wrt)

def _merge(diff, nondiff):
  return tree_map(lambda d, n: n if d is None else d, diff, nondiff,
                  is_leaf=lambda x: x is None)

@jax.default_matmul_precision("highest")
def _odeint_rev(func, rtol, atol, mxstep, hmax, res, g):
  ys, ts, args, wrt = res
  # Each of the two has None where the other has a value
  diff_ts, diff_args = tree_map(lambda w, x: x if w.size else None, wrt, (ts, args))
  _, nondiff_args = tree_map(lambda w, x: None if w.size else x, wrt, (ts, args))

  def aug_dynamics(augmented_state, t, diff_args, nondiff_args):
    """Original system augmented with vjp_y, vjp_t and vjp_args."""
    y, y_bar, *_ = augmented_state
    # `t` here is negatice time, so we need to negate again to get back to
    # normal time. See the `odeint` invocation in `scan_fun` below.
    y_dot, vjpfun = jax.vjp(
        lambda y, t, diff_args: func(y, t, *_merge(diff_args, nondiff_args)),
        y, -t, diff_args)
    y_bar, t_bar, args_bar = vjpfun(y_bar)
    return (-y_dot, y_bar, None if diff_ts is None else t_bar, args_bar)

  y_bar = g[-1]
  ts_bar = None
  t0_bar = None if diff_ts is None else jnp.zeros_like(ts[0])

  def scan_fun(carry, i):
    y_bar, t0_bar, args_bar = carry
    t_bar = None
    if diff_ts is not None:
      # Compute effect of moving measurement time
      # `t_bar` should not be complex as it represents time
      t_bar = jnp.dot(func(ys[i], ts[i], *args), g[i]).real.astype(ts.dtype)
      t0_bar = t0_bar - t_bar
    # Run augmented system backwards to previous observation
    _, y_bar, t0_bar, args_bar = odeint(
        aug_dynamics, (ys[i], y_bar, t0_bar, args_bar),
        jnp.array([-ts[i], -ts[i - 1]]), diff_args, nondiff_args,
        rtol=rtol, atol=atol, mxstep=mxstep, hmax=hmax)
    y_bar, t0_bar, args_bar = tree_map(op.itemgetter(1), (y_bar, t0_bar, args_bar))
    # Add gradient from current output
    y_bar = y_bar + g[i - 1]
    return (y_bar, t0_bar, args_bar), t_bar

  init_carry = (g[-1], t0_bar, tree_map(jnp.zeros_like, diff_args))
  (y_bar, t0_bar, args_bar), rev_ts_bar = lax.scan(
      scan_fun, init_carry, jnp.arange(len(ts) - 1, 0, -1))
  if diff_ts is not None:
    ts_bar = jnp.concatenate([jnp.array([t0_bar]), rev_ts_bar[::-1]])
  return (y_bar, ts_bar, *args_bar)

_odeint.defvjp(_odeint_fwd, _odeint_rev, symbolic_zeros=True)
_odeint.fun = edited(
    _odeint, "[0] + carry",
    "[core.auto_insert_reshard(0, target_t)[0]] + carry").fun
