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

"""odeint accepts each call that stock JAX accepts, with the same results."""

import functools
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import accepted_calls

jax.config.parse_flags_with_absl()

_CALLS = str(pathlib.Path(__file__).with_name("accepted_calls.py"))
_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))

# For conftest.py.
LEFT_OUT = "" if _ALL_TESTS else (
    f"{len(accepted_calls.X64)} calls of odeint in 64 bits")

# Compiles as little as possible.
_FLAGS = ("--xla_backend_optimization_level=0 "
          "--xla_llvm_disable_expensive_passes=true")


@functools.cache
def _outcomes(x64):
  # Runs stock JAX and the patched one at once.
  env = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _FLAGS, **os.environ,
         "JAX_ENABLE_X64": str(int(x64)),
         "PYTHONPATH": os.pathsep.join(sys.path)}
  with tempfile.TemporaryDirectory() as folder:
    runs = []
    for launcher in [], ["-m", "jax_patch"]:
      path = os.path.join(folder, f"outcomes{len(runs)}")
      runs.append((path, subprocess.Popen(
          [sys.executable, *launcher, _CALLS, path], env=env, text=True,
          stderr=subprocess.PIPE)))
    outcomes = []
    for path, process in runs:
      _, errors = process.communicate(timeout=1200)
      if process.returncode:
        raise RuntimeError(errors)
      with open(path, "rb") as f:
        outcomes.append(pickle.load(f))
  return outcomes


class DropInTest(jtu.JaxTestCase):

  @parameterized.named_parameters(
      *((n, n, False) for n in accepted_calls.NAMES),
      *((f"{n}_x64", n, True) for n in accepted_calls.X64 if _ALL_TESTS))
  def test(self, name, x64):
    (tree, expected), (actual_tree, actual) = [o[name] for o in _outcomes(x64)]
    self.assertNotIn("Error", tree)  # Stock takes it.
    self.assertEqual(actual_tree, tree)
    for (*aval, x), (*expected_aval, y) in zip(actual, expected, strict=True):
      self.assertEqual(aval, expected_aval)
      tol = {'float16': 1e-2, 'bfloat16': 5e-2}.get(aval[0], 1e-4)
      self.assertAllClose(x, y, rtol=tol, atol=tol)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
