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

"""A pytest plugin that runs a test suite under the patch.

Name it on the command line, ``python -m pytest -p jax_patch.pytest_plugin``, or
in the suite's ``addopts`` or ``pytest_plugins``. ``python -m jax_patch -m
pytest`` loads it, too. The header says which JAX is patched.

The plugin applies the patch right after JAX is imported, in the workers of
pytest-xdist as well. Other processes that the tests start are not patched: see
``python -m jax_patch --help``.
"""

import functools
import importlib.metadata
import os
import sys
import warnings

import pytest

import jax_patch
from jax_patch._delivery import import_hook

with warnings.catch_warnings():
  # The header lists these names, and a suite may make warnings errors.
  warnings.filterwarnings("ignore", "imported from JAX before")
  import_hook.apply_when_jax_is_imported()

# pytest reads names of plugins here, with commas between them.
_ENV = "PYTEST_PLUGINS"


def pytest_configure(config):
  # The launcher names this plugin there for this run. A pytest that a test
  # starts must not load it: it may belong to another environment.
  named = os.environ.get(_ENV)
  if named is not None:
    os.environ[_ENV] = ",".join(
        name for name in named.split(",") if name != __name__)
    config.add_cleanup(functools.partial(os.environ.__setitem__, _ENV, named))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs):
  others = os.environ.get(_ENV)
  for spec in specs:
    spec.env[_ENV] = f"{others},{__name__}" if others else __name__


def pytest_report_header():
  if "jax" not in sys.modules:
    # Do not import JAX here: the tests may set environment variables for it.
    try:
      version = importlib.metadata.version("jax")
    except importlib.metadata.PackageNotFoundError:
      version = "from a source tree"
    return f"jax_patch: applied to jax {version}"
  report = jax_patch.status()
  applied = "applied" if report.applied else "NOT applied"
  lines = [f"jax_patch: {applied} to jax {report.jax_version}"]
  if report.stale:
    lines.append(
        f"jax_patch: imported from JAX before: {', '.join(report.stale)}")
  return lines
