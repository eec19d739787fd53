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

"""The plugins patch JAX in pytest, its workers too, and in a notebook."""

import importlib.util
import os
import unittest

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

from main_test import ProgramTestCase, ROOT

jax.config.parse_flags_with_absl()

APPLIED = f"\njax_patch: applied to jax {jax.__version__}\n"
PLUGIN = "-m", "pytest", "-p", "jax_patch.pytest_plugin"
LAUNCHER = "-m", "jax_patch", "-m", "pytest"

# JAX reads the variable when it is imported, which the plugin must not do.
CONFTEST = """
import os, sys
assert "jax" not in sys.modules
os.environ["JAX_ENABLE_X64"] = "1"
"""

SUITE = """
import os
from jax import closure_convert, numpy as jnp
def test_patched():
  assert closure_convert.__module__ == "jax_patch.custom_derivatives"
def test_environment():
  assert jnp.ones(()).dtype == "float64"
  # A pytest that a test starts must load the other plugins, and not ours.
  assert os.environ.get("PYTEST_PLUGINS", "") == "other_plugin"
"""

CELLS = (
    "import jax; from jax import closure_convert",
    "%load_ext jax_patch",
    "print(jax.closure_convert.__module__, closure_convert.__module__)",
    "%unload_ext jax_patch",
    "print(jax.closure_convert.__module__)")


class PytestTest(ProgramTestCase):

  def setUp(self):
    super().setUp()
    self.env["PYTHONPATH"] += f"{os.pathsep}{self.directory}"
    self.env["PYTEST_PLUGINS"] = "other_plugin"
    self.write("conftest.py", CONFTEST)
    self.write("test_suite.py", SUITE)
    self.write("other_plugin.py", "")

  def run_suite(self, *args):
    done = self.run_python(*args, "-W", "error", "-p", "no:cacheprovider",
                           "-c", os.devnull, "--rootdir=.")
    return done.stdout + done.stderr

  @parameterized.parameters((PLUGIN,), (LAUNCHER,))
  def test_workers(self, how):
    output = self.run_suite(*how, "-n", "1")
    self.assertIn(APPLIED, output)
    self.assertIn("2 passed", output)

  def test_without_it(self):
    output = self.run_suite("-m", "pytest")
    self.assertNotIn("jax_patch: ", output)
    self.assertIn("1 failed, 1 passed", output)

  def test_conftest_that_names_the_plugin(self):
    # pytest loads the plugin after the imports of the conftest.
    self.write("conftest.py", f"""{CONFTEST}
pytest_plugins = ['jax_patch.pytest_plugin']
from jax import closure_convert, numpy""")
    output = self.run_suite("-m", "pytest", "-n", "1")
    self.assertIn(
        f"{APPLIED}jax_patch: imported from JAX before:"
        " conftest.closure_convert\n", output)
    self.assertIn("2 passed", output)

  def test_program_that_runs_pytest_twice(self):
    (self.directory / "conftest.py").unlink()
    self.env["JAX_ENABLE_X64"] = "1"
    self.write("program.py", """if True:
        import sys, pytest
        pytest.main([*sys.argv[1:], "--co"])
        sys.exit(pytest.main(sys.argv[1:]))""")
    output = self.run_suite("-m", "jax_patch", "program.py", "-n", "1")
    self.assertEqual(output.count(APPLIED), 2)
    self.assertIn("2 passed", output)

  def test_conftest_that_reverts(self):
    self.write("conftest.py", "import jax, jax_patch; jax_patch.revert()")
    output = self.run_suite(*LAUNCHER, "--co")
    self.assertIn("jax_patch: NOT applied to jax ", output)

  def test_jax_that_cannot_be_patched(self):
    # Both modules fail, rather than run on an unpatched JAX.
    self.write("conftest.py", """if True:
        from jax_patch._delivery import patch
        patch._PARAMETERS["jax.experimental.ode.odeint"] = "other" """)
    self.write("test_other.py", SUITE)
    output = self.run_suite(*PLUGIN)
    self.assertIn("2 errors", output)
    self.assertIn("jax_patch needs jax>=", output)


@unittest.skipUnless(
    all(map(importlib.util.find_spec, ("ipykernel", "nbclient"))),
    "needs ipykernel and nbclient, which the extra `docs` installs")
class NotebookTest(jtu.JaxTestCase):

  def test_load_ext(self):
    import nbclient
    import nbformat
    notebook = nbformat.v4.new_notebook(
        cells=[*map(nbformat.v4.new_code_cell, CELLS)])
    nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    _, warned, shown, _, reverted = (
        "".join(output.text for output in cell.outputs)
        for cell in notebook.cells)
    self.assertIn("imported from JAX before", warned)
    self.assertEqual(
        shown, "jax_patch.custom_derivatives jax._src.custom_derivatives\n")
    self.assertEqual(reverted, "jax._src.custom_derivatives\n")


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
