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

"""Runs a test file as a script, in a process of its own.

JAX fixes the number of devices when it starts. So a file with tests for eight
devices is a script, and pytest runs that script as one test.
"""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
import numpy as np

import jax
from jax._src import test_util as jtu


class EightDevicesTestCase(jtu.JaxTestCase):
  """Tests for a mesh of eight devices, which pytest does not collect."""

  __test__ = False

  def setUp(self):
    super().setUp()
    self.assertLen(jax.devices(), 8)
    self.mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))


def start(test: absltest.TestCase, file: str, *args: str,
          **env: str) -> subprocess.Popen:
  """Starts a Python file, which ends with the test at the latest."""
  stock = os.environ.get("JAX_PATCH_STOCK")
  launcher = [] if stock else ["-m", "jax_patch"]
  process = subprocess.Popen(
      [sys.executable, *launcher, file, *args], stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True,
      env={**os.environ, "JAX_PLATFORMS": "cpu",
           "PYTHONPATH": os.pathsep.join(sys.path), **env})
  test.addCleanup(process.communicate)
  test.addCleanup(process.kill)
  return process


def output_of(test: absltest.TestCase, process: subprocess.Popen,
              timeout: float) -> str:
  """Returns what a process prints. Fails unless it succeeds in time."""
  try:
    output, _ = process.communicate(timeout=timeout)
  except subprocess.TimeoutExpired:
    process.kill()
    output, _ = process.communicate()
    test.fail(f"not done after {timeout} s:\n{output[-5000:]}")
  test.assertEqual(process.returncode, 0, output[-10000:])
  return output


def test_of_script(file: str) -> type[absltest.TestCase]:
  """Returns a test that runs the tests of a file as a script."""

  class ScriptTest(jtu.JaxTestCase):

    def test_script(self):
      output = output_of(self, start(self, file), timeout=600)
      self.assertRegex(output, r"Ran \d+ tests")

  ScriptTest.__qualname__ = ScriptTest.__name__ = "".join(
      word.capitalize() for word in pathlib.Path(file).stem.split("_"))
  return ScriptTest
