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


import jax
import jax.numpy as jnp
from jax._src import core
from jax.experimental.ode import _odeint_wrapper
from jax.tree_util import Partial, tree_leaves
from jax_patch.custom_derivatives import _closure_convert
from jax_patch.experimental.ode import _call_closure, _committed_devices


def odeint(func, y0, t, *args, rtol=1.4e-8, atol=1.4e-8, mxstep=jnp.inf, hmax=jnp.inf):
  for arg in tree_leaves(args):
    if not core.valid_jaxtype(arg):
      raise TypeError(
        f"The contents of odeint *args must be arrays or scalars, but got {arg}.")
  if not jnp.issubdtype(t.dtype, jnp.floating):
    raise TypeError(f"t must be an array of floats, but got {t}.")

  ts = core.typeof(t)
  time = t[0] if isinstance(t, core.Tracer) else jax.ShapeDtypeStruct(
      (), ts.dtype, weak_type=ts.weak_type)
  # The types in which the solver computes can be others than those of y0 and t
  convert = lambda **kwargs: _closure_convert(
      func, (y0, time, *args), {}, warn=False, **kwargs)
  # Passing the closure as a pytree argument lets jit reuse one compilation
  closure = Partial(*convert(to_pytree=True))
  traced = [x for x in tree_leaves(closure) if isinstance(x, core.Tracer)]
  if _committed_devices(closure) - _committed_devices((y0, t, args, traced)):
    # Captured arrays must not choose the devices, and constants do not
    converted, consts = convert()
    return _odeint_wrapper(converted, rtol, atol, mxstep, hmax, y0, t, *args, *consts)
  return _odeint_wrapper(_call_closure, rtol, atol, mxstep, hmax, y0, t, closure, *args)
