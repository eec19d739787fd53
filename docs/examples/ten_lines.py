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

"""Solves x ** 2 = a[i] for x by Newton's method, and differentiates the root.

The root finder has a rule by the implicit function theorem. The equation is a
closure over an array and an integer. `python ten_lines.py` fails, because the
integer leaks. `python -m jax_patch ten_lines.py` gives the right answer.
"""

from functools import partial
import jax
import jax.numpy as jnp

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def root(f, *aux):
  newton = lambda _, x: x - f(x, *aux) / jax.grad(f)(x, *aux)
  return jax.lax.fori_loop(0, 20, newton, 1.)

def root_fwd(f, *aux):
  x = root(f, *aux)
  return x, (x, aux)

def root_bwd(f, residuals, x_bar):  # dx = -(df/dx)^{-1} (df/daux) daux
  x, aux = residuals
  _, vjp_aux = jax.vjp(partial(f, x), *aux)
  return vjp_aux(-x_bar / jax.grad(f)(x, *aux))

root.defvjp(root_fwd, root_bwd)

@jax.jit
def sqrt_of_entry(a, i):
  f, aux = jax.closure_convert(lambda x: x ** 2 - a[i], 1.)
  return root(f, *aux)

print("computed", jax.grad(sqrt_of_entry)(jnp.array([4., 9., 16.]), 1))
print("expected", jnp.array([0., 1 / 6, 0.]))
