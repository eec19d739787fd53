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

import operator as op

import jax
import jax.numpy as jnp
from jax import custom_derivatives
from jax import lax
from jax.experimental.ode import _odeint, odeint
from jax.tree_util import tree_map


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
