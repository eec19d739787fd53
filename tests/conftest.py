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

"""Patches JAX for the tests, and says at the end which tests were left out.

With ``JAX_PATCH_STOCK=1``, the tests run on JAX as it is installed, where those
of the defects that the patch mends must fail. With ``JAX_PATCH_ALL_TESTS=1``, as
CI sets it, nothing is left out, and all is compiled as it is for users. A test
file chooses which tests to leave out, since it is a script, too, and describes
them in ``LEFT_OUT``.
"""

import importlib.metadata
import os

import pytest

import jax_patch

# To compile takes half of the time. What is tested is how JAX traces, converts
# and differentiates, which comes before, and values are compared all the same.
# XLA reads this as it starts, in the workers and in whatever tests start.
_FLAGS = ("--xla_backend_optimization_level=0 "
          "--xla_llvm_disable_expensive_passes=true")
if importlib.metadata.version("jaxlib").startswith("0.10."):
  # Most of the gain, where there is a choice: XLA aborts at a flag that it
  # does not know, as jaxlib 0.12 does with this one.
  _FLAGS += " --xla_cpu_use_fusion_emitters=false"
if not os.environ.get("JAX_PATCH_ALL_TESTS"):
  os.environ.setdefault("XLA_FLAGS", _FLAGS)

# Before a test file takes names out of JAX.
if not os.environ.get("JAX_PATCH_STOCK"):
  jax_patch.apply()

_KEY = pytest.StashKey[set[str]]()


def pytest_configure(config):
  config.stash[_KEY] = set()
  if os.environ.get("XLA_FLAGS") == _FLAGS:
    config.stash[_KEY].add("all files: what XLA does to optimize")

def pytest_collection_modifyitems(items):
  # The first of these in a process runs what all of them need, for a minute. So
  # they come first: xdist starts with long runs of neighbours for each worker,
  # and on two processors one has them all.
  items.sort(key=lambda item: (
      "::DropInTest::" not in item.nodeid or item.name.endswith("_x64")))

def pytest_collection_finish(session):
  # Of the files that have tests in this run.
  session.config.stash[_KEY] |= {
      f"{item.path.name}: {item.module.LEFT_OUT}" for item in session.items
      if getattr(getattr(item, "module", None), "LEFT_OUT", "")}

# With xdist only the workers collect, and only the controller prints.

def pytest_sessionfinish(session):
  if hasattr(session.config, "workeroutput"):
    session.config.workeroutput["left_out"] = sorted(session.config.stash[_KEY])

@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  node.config.stash[_KEY].update(
      getattr(node, "workeroutput", {}).get("left_out", ()))

def pytest_terminal_summary(terminalreporter, config):
  if left_out := sorted(config.stash[_KEY]):
    terminalreporter.section("left out, and run by JAX_PATCH_ALL_TESTS=1")
    for line in left_out:
      terminalreporter.line(line)
