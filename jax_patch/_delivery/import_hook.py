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

"""Applies the patch as soon as the program imports JAX.

Nothing here imports JAX itself: a program, or the conftest.py of a test suite,
may first set the environment variables that JAX reads when it is imported.
"""

from collections.abc import Callable
import itertools
import sys

import jax_patch


def apply_when_jax_is_imported() -> None:
  """Applies the patch after JAX is imported, or now if it is already."""
  after_import("jax", jax_patch.apply)


def after_import(name: str, call: Callable[[], None]) -> None:
  """Calls a function after a module is imported, or now if it is already."""
  if name in sys.modules:
    call()
  else:
    sys.meta_path.insert(0, _AfterImport(name, call))


class _AfterImport:
  """A meta path finder for one module, which asks the finders after it."""

  def __init__(self, name: str, call: Callable[[], None]):
    self._name = name
    self._call = call

  def find_spec(self, name, path=None, target=None):
    if name != self._name:
      return None
    # Python has asked the finders before this one.
    finders = itertools.dropwhile(lambda f: f is not self, [*sys.meta_path])
    next(finders, None)  # this one
    specs = (finder.find_spec(name, path, target) for finder in finders)
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is None or spec.loader is None:
      return spec
    exec_module = spec.loader.exec_module

    def exec_and_call(module):
      # One loader may load many modules: a zip file's does.
      vars(spec.loader).pop("exec_module", None)
      exec_module(module)
      self._call()
      # Only now: find_spec() does not imply an import, and a program may repeat
      # an import that failed.
      if self in sys.meta_path:
        sys.meta_path.remove(self)

    spec.loader.exec_module = exec_and_call
    return spec
