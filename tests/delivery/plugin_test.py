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

"""The pytest plugin patches JAX for a suite, in the workers of xdist, too."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import jax_patch

jax.config.parse_flags_with_absl()


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
  # A pytest that a test starts must not load the plugin.
  assert "jax_patch" not in os.environ.get("PYTEST_PLUGINS", "")
"""

REFUSED = """
from jax_patch._delivery import patch
patch._PARAMETERS["jax.experimental.ode.odeint"] = "other"
"""


class PluginTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.directory = pathlib.Path(directory.name)
    root = os.path.dirname(os.path.dirname(os.path.abspath(jax_patch.__file__)))
    # A worker of pytest, which may run these tests, has variables of its own.
    self.env = {name: value for name, value in os.environ.items()
                if not name.startswith(("PYTEST_", "JAX_", "XLA_"))}
    self.env["PYTHONPATH"] = root
    (self.directory / "conftest.py").write_text(CONFTEST)
    (self.directory / "test_suite.py").write_text(SUITE)

  def run_suite(self, *args):
    return subprocess.run(
        [sys.executable, *args, "-W", "error", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir=."],
        cwd=self.directory, env=self.env, capture_output=True, text=True)

  @parameterized.parameters(
      ("-m", "pytest", "-p", "jax_patch.pytest_plugin"),
      ("-m", "jax_patch", "-m", "pytest"))
  def test_workers(self, *how):
    done = self.run_suite(*how, "-n", "2")
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    self.assertIn(f"\njax_patch: applied to jax {jax.__version__}\n",
                  done.stdout)
    self.assertIn("2 passed", done.stdout)

  def test_conftest_that_imports_jax(self):
    (self.directory / "conftest.py").write_text(
        "import jax; jax.config.update('jax_enable_x64', True)")
    done = self.run_suite(
        "-m", "pytest", "-p", "jax_patch.pytest_plugin", "-p", "no:xdist")
    self.assertIn("2 passed", done.stdout, done.stderr)

  def test_conftest_that_names_the_plugin(self):
    # pytest loads the plugin after the imports of the conftest.
    (self.directory / "conftest.py").write_text(
        CONFTEST + "pytest_plugins = ['jax_patch.pytest_plugin']\n"
        "from jax import closure_convert, numpy")
    done = self.run_suite("-m", "pytest", "-n", "1")
    self.assertIn(
        f"\njax_patch: applied to jax {jax.__version__}\n"
        "jax_patch: imported from JAX before: conftest.closure_convert\n",
        done.stdout, done.stderr)
    self.assertIn("2 passed", done.stdout)

  def test_program_that_runs_pytest_twice(self):
    (self.directory / "conftest.py").unlink()
    self.env["JAX_ENABLE_X64"] = "1"
    (self.directory / "program.py").write_text("""if True:
        import sys, pytest
        pytest.main([*sys.argv[1:], "--co"])
        sys.exit(pytest.main(sys.argv[1:]))""")
    done = self.run_suite("-m", "jax_patch", "program.py", "-n", "1")
    self.assertEqual(done.stdout.count("\njax_patch: applied to jax "), 2)
    self.assertIn("2 passed", done.stdout, done.stderr)

  def test_conftest_that_reverts(self):
    (self.directory / "conftest.py").write_text(
        "import jax, jax_patch; jax_patch.revert()")
    done = self.run_suite("-m", "jax_patch", "-m", "pytest", "--co")
    self.assertIn("jax_patch: NOT applied to jax ", done.stdout, done.stderr)

  def test_other_plugins_that_the_environment_names(self):
    self.env["PYTEST_PLUGINS"] = "other_plugin"
    self.env["PYTHONPATH"] += os.pathsep + str(self.directory)
    (self.directory / "other_plugin.py").write_text("""if True:
        import os, pytest
        @pytest.fixture
        def named(): return os.environ["PYTEST_PLUGINS"]""")
    (self.directory / "test_suite.py").write_text(
        "def test_named(named): assert named == 'other_plugin'")
    done = self.run_suite("-m", "jax_patch", "-m", "pytest", "-n", "1")
    self.assertIn("1 passed", done.stdout, done.stderr)

  def test_without_it(self):
    done = self.run_suite("-m", "pytest")
    self.assertNotIn("jax_patch: ", done.stdout)
    self.assertIn("1 failed, 1 passed", done.stdout, done.stderr)

  def test_jax_that_cannot_be_patched(self):
    # Both modules fail, rather than run on an unpatched JAX.
    (self.directory / "conftest.py").write_text(REFUSED)
    (self.directory / "test_other.py").write_text(SUITE)
    done = self.run_suite("-m", "pytest", "-p", "jax_patch.pytest_plugin")
    self.assertIn("2 errors", done.stdout, done.stderr)
    self.assertIn("jax_patch needs jax>=", done.stdout)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
