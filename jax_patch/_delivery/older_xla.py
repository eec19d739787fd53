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

"""Replaces a helper of odeint's mirror on a jaxlib before 0.11.1."""

import types

import jax
import jax.numpy as jnp
import jaxlib.version
from jax.flatten_util import ravel_pytree


def replace_in(mirror: types.ModuleType) -> None:
  # The CPU backend of that XLA drops optimization barriers before it fuses
  # operations, so that the mirror's barriers do nothing. Negating each part of a
  # concatenation keeps the backend from confusing the parts.
  is_old = jaxlib.version.__version_info__ < (0, 11, 1)
  if is_old and hasattr(mirror, "_ravel"):
    mirror._ravel = _ravel


def _ravel(tree):
  flat, unravel = ravel_pytree(tree)
  if len(jax.tree.leaves(tree)) == 1:
    return flat, unravel
  def negative(x):
    # A needless cast would make the cotangents of Python scalars weakly typed.
    same = jnp.result_type(x) == flat.dtype
    return -x if same else -jnp.asarray(x, flat.dtype)
  minus = jax.tree.map(negative, tree)
  def unravel_negative(x):
    # Integers and booleans have no cotangents, and may be unsigned.
    return jax.tree.map(
        lambda y, m: -m if jnp.issubdtype(m.dtype, jnp.inexact) else y,
        unravel(x), unravel(-x))
  return -ravel_pytree(minus)[0], unravel_negative
