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

"""Patches JAX for the tests.

With ``JAX_PATCH_STOCK=1``, the tests run on JAX as it is installed, where those
of the defects that the patch mends must fail. With ``JAX_PATCH_ALL_TESTS=1``,
as CI sets it, nothing is left out, and all is compiled as it is for users. A
test file chooses which tests to leave out, since it is a script, too.
"""

import importlib.metadata
import os

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

# Some tests need them, and JAX takes no other number once it has started.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

# Before a test file takes names out of JAX.
if not os.environ.get("JAX_PATCH_STOCK"):
  jax_patch.apply()


def pytest_report_header():
  if not os.environ.get("JAX_PATCH_ALL_TESTS"):
    return ("JAX_PATCH_ALL_TESTS=1 runs the cases that are left out, and lets "
            "XLA optimize")

def pytest_collection_modifyitems(items):
  # The first of these in a process runs what all of them need, for a minute. So
  # they come first: xdist starts with long runs of neighbours for each worker,
  # and on two processors one has them all.
  items.sort(key=lambda item: (
      "::DropInTest::" not in item.nodeid or item.name.endswith("_x64")))
