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

"""Adds the names that the mirrors use, and that an older JAX lacks.

The mirrors are written for the newest JAX. While the patch is in force, an
older JAX has these names, too:

| name | in JAX since |
| --- | --- |
| ``jax._src.flattree.treedef_args_to_ft`` | 0.11 |
| ``jax._src.interpreters.partial_eval.trace_to_jaxpr_nocache`` | 0.11 |
| ``jax._src.interpreters.partial_eval.separate_consts`` of a ``Jaxpr`` | 0.11 |
| ``jax._src.core.Jaxpr.consts`` | 0.11 |
"""

import importlib.util
import sys
import types

from jax._src import core
from jax._src import linear_util as lu
from jax._src.api_util import flatten_fun
from jax._src.interpreters import partial_eval as pe


def missing():
  """Returns the attributes to add: owner's name, owner, attribute, value."""
  if hasattr(pe, "trace_to_jaxpr_nocache"):
    return []
  return [(pe.__name__, pe, "trace_to_jaxpr_nocache", _trace_to_jaxpr_nocache),
          (pe.__name__, pe, "separate_consts", _separate_consts),
          ("jax._src.core.Jaxpr", core.Jaxpr, "consts", ())]

def extend_key():
  """Makes keys of jaxprs look into ``ClosedJaxpr``, which jax 0.10 has."""
  from jax_patch import jaxpr_key
  if getattr(core, "ClosedJaxpr", core.Jaxpr) is not core.Jaxpr:
    jaxpr_key._ATTRIBUTES["ClosedJaxpr"] = "jaxpr", "consts"

def add_modules():
  """Adds the modules that the mirrors import, where JAX lacks them."""
  name = "jax._src.flattree"
  if name not in sys.modules and importlib.util.find_spec(name) is None:
    module = types.ModuleType(name)
    module.treedef_args_to_ft = lambda tree, vals: (tree, vals)
    sys.modules[name] = module


class _JaxprWithConsts(core.Jaxpr):
  __slots__ = ["consts"]


def _trace_to_jaxpr_nocache(fun, in_avals, debug_info):
  tree, vals = in_avals
  flat_fun, out_tree = flatten_fun(
      lu.wrap_init(fun, debug_info=debug_info), tree)
  jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(flat_fun, vals)
  jaxpr = _JaxprWithConsts(
      jaxpr.constvars, jaxpr.invars, jaxpr.outvars, jaxpr.eqns, jaxpr.effects,
      jaxpr.debug_info, jaxpr.is_high)
  jaxpr.consts = consts
  return jaxpr, types.SimpleNamespace(tree=out_tree())

_separate_consts_of_closed_jaxpr = pe.separate_consts

def _separate_consts(jaxpr):
  if not isinstance(jaxpr, _JaxprWithConsts):
    return _separate_consts_of_closed_jaxpr(jaxpr)
  return pe.convert_constvars_jaxpr(jaxpr), jaxpr.consts
