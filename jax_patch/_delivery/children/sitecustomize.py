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

"""Patches the processes that ``python -m jax_patch --children`` starts.

That command puts this directory first in PYTHONPATH, and a starting Python
imports the module ``sitecustomize``. This one restores ``sys.path``, and then
runs the sitecustomize that it hides.
"""

import importlib.machinery
import importlib.util
import os
import pathlib
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_path = [path for path in sys.path if path != _here]

try:
  # The environment of the process need not have jax_patch installed.
  sys.path[:] = [*_path, str(pathlib.Path(_here).parents[2])]
  from jax_patch._delivery import import_hook
  import_hook.apply_when_jax_is_imported()
finally:
  sys.path[:] = _path
  # The environment's own sitecustomize runs last: it may import JAX, or fail.
  _spec = importlib.machinery.PathFinder.find_spec(__name__)
  if _spec is not None:
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
