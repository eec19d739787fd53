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

"""Finds functions that modules imported before the patch replaced them."""

from collections.abc import Iterable
import sys
import types
from typing import Any


def names(bindings: Iterable[Any], is_applied: bool) -> tuple[str, ...]:
  """Returns the names at the top level of modules that hold the wrong object.

  Args:
    bindings: the attributes of JAX that the patch replaces.
    is_applied: whether to look for JAX's own objects, which are wrong while the
      patch is in force, or for the patch's.
  """
  # Attributes of other objects are rules, whose value can be True.
  wrong = {id(b.original if is_applied else b.replacement) for b in bindings
           if isinstance(b.owner, types.ModuleType)}
  homes = {b.home for b in bindings}
  found = set()
  for module_name, module in list(sys.modules.items()):
    if (not isinstance(module, types.ModuleType)
        or module_name.startswith("jax_patch.")):
      continue
    # vars() would load a module that is imported lazily.
    members = object.__getattribute__(module, "__dict__")
    found |= {f"{module_name}.{name}" for name, value in list(members.items())
              if id(value) in wrong}
  return tuple(sorted(found - homes))
