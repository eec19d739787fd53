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

"""Runs ``multi_device.py`` on eight devices, of one process and of two."""

import os
import pathlib
import socket
import subprocess
import sys

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()

_SUITE = pathlib.Path(__file__).with_name("multi_device.py")


class MultiDeviceTest(jtu.JaxTestCase):

  def start(self, num_devices, **env):
    flags = (f"{os.environ.get('XLA_FLAGS', '')} "
             f"--xla_force_host_platform_device_count={num_devices}")
    process = subprocess.Popen(
        [sys.executable, str(_SUITE)], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags,
             "PYTHONPATH": os.pathsep.join(sys.path), **env})
    # One that fails would leave the other waiting for it.
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    return process

  def check(self, processes):
    for process in processes:
      try:
        output, _ = process.communicate(timeout=600)
      except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        self.fail(f"no end in sight:\n{output[-5000:]}")
      self.assertEqual(process.returncode, 0, output[-10000:])
      self.assertRegex(output, r"Ran \d\d tests")

  def test_eight_devices(self):
    self.check([self.start(8)])

  def test_two_processes_of_four_devices(self):
    with socket.socket() as s:
      s.bind(("localhost", 0))
      address = f"localhost:{s.getsockname()[1]}"
    self.check([
        self.start(4, MULTI_DEVICE_ADDRESS=address, MULTI_DEVICE_PROCESS=str(i))
        for i in range(2)])


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
