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

"""Pickling jaxprs.

A jaxpr refers to objects of which there is but one: primitives, which are found
by name, and types, where JAX interns them. The rules of custom derivatives are
functions, and pickle if Python's functions of that kind do.
"""

import importlib
import io
import pickle
import sys
from typing import Any

import numpy as np

from jax import version
from jax._src import core
from jax._src import source_info_util
from jax_patch.structural_key import jaxpr_key


def dumps(jaxpr: core.Jaxpr) -> bytes:
  """Pickles a jaxpr.

  Raises:
    pickle.PicklingError: If not every part of it can be pickled, or what would
      be loaded is not known to compute the same.
  """
  data, error = _dumps_or_error(jaxpr)
  if error is not None:
    raise pickle.PicklingError(
        f"The function {jaxpr.debug_info.func_src_info} cannot be pickled, "
        f"because of {', '.join(_culprits(jaxpr))}: {error}") from error
  return data

def loads(data: bytes) -> core.Jaxpr:
  """Loads what :func:`dumps` returned."""
  # A primitive means what one version of JAX takes it to mean.
  saved_by, data = pickle.loads(data)
  if saved_by != version.__version__:
    raise pickle.UnpicklingError(
        f"A function pickled by JAX {saved_by} cannot be loaded by JAX "
        f"{version.__version__}.")
  return pickle.loads(data)

def _dumps_or_error(jaxpr):
  out = io.BytesIO()
  try:
    _Pickler(out).dump(jaxpr)
    data = pickle.dumps((version.__version__, out.getvalue()))
    if jaxpr_key(loads(data)) == jaxpr_key(jaxpr):
      return data, None
  except Exception as e:
    return None, e
  return None, ValueError("what it refers to is known by its identity alone")

def _culprits(jaxpr):
  # The equations which cannot be pickled, where the innermost tell most.
  for eqn in jaxpr.eqns:
    invars = [v for v in eqn.invars if isinstance(v, core.Var)]
    only = jaxpr.replace(
        constvars=[], invars=invars, outvars=eqn.outvars, eqns=[eqn],
        debug_info=jaxpr.debug_info.with_unknown_names())
    if _dumps_or_error(only)[1] is not None:
      inner = [c for j in core.jaxprs_in_params(eqn.params)
               for c in _culprits(getattr(j, "jaxpr", j))]
      place = source_info_util.summarize(eqn.source_info)
      yield from inner or [f"{eqn.primitive} at {place or '<unknown>'}"]


class _Pickler(pickle.Pickler):

  def __init__(self, out):
    super().__init__(out, pickle.HIGHEST_PROTOCOL)
    # Primitives, marks of what is unspecified, and other objects of JAX, by the
    # names that they have there, preferably.
    modules = sorted(sys.modules.items(), key=lambda m: m[0].startswith("jax."))
    self.names = {
        id(x): (module_name, name) for module_name, module in modules
        for name, x in list(getattr(module, "__dict__", {}).items())
        if str(type(x).__module__).startswith("jax.")}

  def reducer_override(self, x):
    if id(x) in self.names:
      return _load_global, self.names[id(x)]
    if isinstance(x, core.Primitive):
      raise pickle.PicklingError(f"{x} is no global of any module")
    if type(x) is core.ShapedArray:
      more = {k: getattr(x, k) for k in ("sharding", "memory_space")
              if hasattr(x, k)}
      return _load_shaped_array, (x.shape, x.dtype, x.weak_type, more)
    if _is_written_out(x):
      return _WrittenOut(x).__reduce__()
    if isinstance(x, source_info_util.SourceInfo):
      return source_info_util.new_source_info, ()
    return NotImplemented

def _load_global(module: str, name: str) -> Any:
  return getattr(importlib.import_module(module), name)

def _load_shaped_array(shape, dtype, weak_type, more):
  return core.ShapedArray(shape, dtype, weak_type, **more)

def picklable(x: Any) -> Any:
  """Returns something that is pickled in the place of a captured array."""
  return _WrittenOut(x) if _is_written_out(x) else x

def _is_written_out(x):
  # A NumPy array that has a type of JAX's, which it loses by itself.
  return isinstance(x, np.ndarray) and hasattr(x, "aval")

class _WrittenOut:

  def __init__(self, x):
    self.x = x

  def __reduce__(self):
    return _load_written_out, (
        type(self.x), np.asarray(self.x), self.x.aval.weak_type)

def _load_written_out(cls, value, weak_type):
  return cls(value, core.ShapedArray(value.shape, value.dtype, weak_type))
