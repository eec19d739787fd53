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

from functools import partial
import operator as op

import jax
import jax.numpy as jnp
from jax import custom_derivatives
from jax import dtypes
from jax import lax
from jax.experimental.ode import _odeint, ravel_first_arg
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_flatten, tree_map, tree_unflatten
from jax.util import safe_map, safe_zip

map = safe_map
zip = safe_zip


def odeint(func, y0, t, *args, rtol=1.4e-8, atol=1.4e-8, mxstep=jnp.inf):
  converted, consts = custom_derivatives.closure_convert(func, y0, t[0], *args)
  return _odeint_wrapper(converted, rtol, atol, mxstep, y0, t, *args, *consts)

@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _odeint_wrapper(func, rtol, atol, mxstep, y0, ts, *args):
  y0, unravel = ravel_pytree(y0)
  args, args_tree = tree_flatten(args)
  func_ = lambda y, t, *args: func(y, t, *tree_unflatten(args_tree, args))
  out = _odeint(ravel_first_arg(func_, unravel), rtol, atol, mxstep, y0, ts,
                *args)
  return jax.vmap(unravel)(out)

def _odeint_rev(func, rtol, atol, mxstep, res, g):
  ys, ts, args = res
  # Cotangents are integrated for what has any. The rest rides along.
  is_diff = [jnp.issubdtype(dtypes.dtype(x), jnp.inexact) for x in args]
  diff_args = [x for x, d in zip(args, is_diff) if d]
  nondiff_args = [x for x, d in zip(args, is_diff) if not d]

  def merge(diff_args, nondiff_args):
    diff, nondiff = iter(diff_args), iter(nondiff_args)
    return [next(diff if d else nondiff) for d in is_diff]

  def aug_dynamics(augmented_state, neg_t, diff_args, nondiff_args):
    # The original system, augmented with the cotangents of the state, of time
    # and of the arguments. Time runs backward here, hence the signs.
    y, y_bar, *_ = augmented_state
    y_dot, vjpfun = jax.vjp(
        lambda y, t, diff: func(y, t, *merge(diff, nondiff_args)),
        y, -neg_t, diff_args)
    return (-y_dot, *vjpfun(y_bar))

  def scan_fun(carry, i):
    y_bar, t0_bar, args_bar = carry
    # The effect of moving the time of this output. It is not complex, even
    # where the state is.
    t_bar = jnp.dot(func(ys[i], ts[i], *args), g[i]).real
    t0_bar = t0_bar - t_bar
    # Integrate back to the output before.
    _, y_bar, t0_bar, args_bar = odeint(
        aug_dynamics, (ys[i], y_bar, t0_bar, args_bar),
        jnp.array([-ts[i], -ts[i - 1]]), diff_args, nondiff_args,
        rtol=rtol, atol=atol, mxstep=mxstep)
    y_bar, t0_bar, args_bar = tree_map(
        op.itemgetter(1), (y_bar, t0_bar, args_bar))
    return (y_bar + g[i - 1], t0_bar, args_bar), t_bar

  init_carry = (g[-1], 0., tree_map(jnp.zeros_like, diff_args))
  (y_bar, t0_bar, args_bar), rev_ts_bar = lax.scan(
      scan_fun, init_carry, jnp.arange(len(ts) - 1, 0, -1))
  ts_bar = jnp.concatenate([jnp.array([t0_bar]), rev_ts_bar[::-1]])
  return (y_bar, ts_bar, *merge(args_bar, [None] * len(nondiff_args)))
