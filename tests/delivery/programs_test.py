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

"""Programs, test suites and notebooks run on a patched JAX."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import unittest

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import jax_patch

jax.config.parse_flags_with_absl()

ROOT = pathlib.Path(jax_patch.__file__).resolve().parents[1]

# Prints all that depends on how the program was started.
PROGRAM = """
import json, multiprocessing, os, pickle, sys
class C: pass
def square(x): return x * x
if __name__ == "__main__":
  assert type(pickle.loads(pickle.dumps(C()))) is C
  assert vars(sys.modules["__main__"]) is globals()
  spec = __spec__ and [__spec__.name, __spec__.origin]
  print(json.dumps([
      sys.argv, sys.path, __name__, __package__, spec,
      globals().get("__file__"), type(__builtins__).__name__,
      getattr(__loader__, "__name__", type(__loader__).__name__),
      sys.excepthook is sys.__excepthook__, os.environ["PYTHONPATH"]]))
  sys.stdout.flush()
  if "spawn" in sys.argv:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
      print(pool.map(square, [3]))
  if "exit" in sys.argv: sys.exit(3)
  if "interrupt" in sys.argv: raise KeyboardInterrupt
  if "raise" in sys.argv:
    try:
      C().missing
    except AttributeError as e:
      raise ValueError("a chain") from e
"""

JAX_PROGRAM = """
import importlib.util, os
# These must be set before JAX is imported, and before its backend starts.
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
importlib.util.find_spec("jax")
from jax import closure_convert
import jax
from jax._src import xla_bridge
import jax_patch
assert jax_patch.status().applied and not jax_patch.status().stale
assert closure_convert.__module__ == "jax_patch.custom_derivatives"
assert not xla_bridge.backends_are_initialized()
assert jax.numpy.ones(()).dtype == "float64"
assert jax.default_backend() != "cpu" or jax.device_count() == 2
def solve(x):
  converted, _ = closure_convert(lambda y: y + bad, x)
  return converted(x)
jax.jit(solve)(1.)
"""

CHILDREN_PROGRAM = """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, subprocess, sys
def look(label):
  assert not any(path.endswith("children") for path in sys.path)
  from jax import closure_convert
  return f"{label} {closure_convert.__module__}"
LOOK = "import program, sys; print(program.look(sys.argv[1]))"
# This process does not import JAX.
RELAY = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
if __name__ == "__main__":
  for method in ("spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
      print(*pool.map(look, [method]))
  for code, *args in (
      (RELAY, sys.executable, "-c", LOOK, "grandchild"),
      ("import sitecustomize; print(*sitecustomize.OWN)",)):
    print(subprocess.check_output(
        [sys.executable, "-c", code, *args], text=True), end="")
"""

# The environment's own, which --children hides.
SITECUSTOMIZE = """
import sys
OWN = __name__, __file__
if sys.argv[1:] == ["grandchild"]:
  raise ValueError("a failure")
"""


class ProgramTestCase(jtu.JaxTestCase):
  """Runs programs in a directory, without the variables of this process."""

  def setUp(self):
    super().setUp()
    self.directory = pathlib.Path(self.create_tempdir().full_path).resolve()
    self.env = {name: value for name, value in os.environ.items()
                if not name.startswith(("XLA_", "JAX_", "PYTEST_", "PYTHON"))}
    self.env["PYTHONPATH"] = str(ROOT)

  def write(self, name, text):
    (self.directory / name).parent.mkdir(exist_ok=True)
    (self.directory / name).write_text(text)

  def run_python(self, *args):
    return subprocess.run([sys.executable, *args], cwd=self.directory,
                          env=self.env, capture_output=True, text=True)


class MainTest(ProgramTestCase):

  def setUp(self):
    super().setUp()
    self.env["PYTHONWARNINGS"] = "error"
    for name in ("program.py", "package/__main__.py", "folder/__main__.py"):
      self.write(name, PROGRAM)
    self.write("package/__init__.py", "")
    self.write("bad.py", "def f(:")
    (self.directory / "empty").mkdir()

  def run_patched(self, *args):
    return self.run_python("-m", "jax_patch", *args)

  @parameterized.parameters(
      ("program.py", "-m", "--help", "exit"),
      ("folder/../package/__main__.py", "raise"),
      ("program.py", "interrupt"),
      ("program.py", "spawn"),
      ("folder", "raise"),
      ("empty",),
      ("bad.py",),
      ("-m", "package", "raise"),
      ("-m", "program", "exit"),
      ("-c", PROGRAM, "x"),
      ("missing.py",),
      ("-m", "missing"),
      ("-m", "package.missing"),
  )
  def test_as_if_run_directly(self, *args):
    files = lambda: sorted(self.directory.rglob("*"))
    direct, files_of_direct = self.run_python(*args), files()
    ours = self.run_patched(*args)
    self.assertEqual(ours.stdout, direct.stdout)
    # Running a folder or a module, python shows frames of runpy, too.
    self.assertEqual(ours.stderr, "".join(
        line for line in direct.stderr.splitlines(keepends=True)
        if "<frozen runpy>" not in line))
    self.assertEqual(ours.returncode, direct.returncode)
    self.assertEqual(files(), files_of_direct)
    if not {"empty", "bad.py"} & {*args} and "missing" not in args[-1]:
      self.assertNotEmpty(json.loads(ours.stdout.splitlines()[0]))

  @parameterized.parameters(
      ("program.py", "program.py"), ("package/__init__.py", "-m", "package"))
  def test_program_that_uses_jax(self, file, *args):
    self.write(file, JAX_PROGRAM)
    ours = self.run_patched(*args)
    self.assertEqual(ours.returncode, 1, ours.stderr)
    self.assertIn("NameError: name 'bad' is not defined", ours.stderr)
    frames = [line.strip().split('"')[1] for line in ours.stderr.splitlines()
              if line.strip().startswith("File ")]
    self.assertEqual({*frames}, {str(self.directory / file)})

  def test_children(self):
    self.write("program.py", CHILDREN_PROGRAM)
    self.write("sitecustomize.py", SITECUSTOMIZE)
    self.env["PYTHONPATH"] += os.pathsep + str(self.directory)
    ours = self.run_patched("--children", "program.py")
    own = self.directory / "sitecustomize.py"
    self.assertEqual(
        ours.stdout.splitlines(),
        [f"{label} jax_patch.custom_derivatives" for label in (
            "spawn", "forkserver", "grandchild")]
        + [f"sitecustomize {own}"], ours.stderr)
    # Python reports an error in sitecustomize, and continues.
    self.assertEqual(ours.stderr.splitlines()[1:], ["ValueError: a failure"])
    self.assertEqual(ours.returncode, 0)

  @parameterized.parameters("-E", "-S")
  def test_children_without_pythonpath_or_site(self, option):
    self.directory = ROOT  # has jax_patch, also if PYTHONPATH is ignored
    wrong = self.run_python(
        option, "-m", "jax_patch", "--children", "program.py")
    self.assertEqual(wrong.returncode, 2)
    self.assertIn("error: --children needs PYTHONPATH", wrong.stderr)

  @parameterized.parameters(
      ("no program given",), ("-m needs an argument", "-m"),
      ("unknown option --nonsense", "--nonsense", "program.py"),
      ("python -O -m jax_patch ...", "-O", "program.py"),
      ("--status takes no arguments", "--status", "x"))
  def test_wrong_usage(self, error, *args):
    wrong = self.run_patched(*args)
    self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
    self.assertStartsWith(wrong.stderr, "usage: python -m jax_patch ")
    self.assertEndsWith(wrong.stderr, f"{error}\n")

  @parameterized.parameters(
      ("--help", "usage: python -m jax_patch "),
      ("--version", f"jax_patch {jax_patch.__version__}\n"),
      ("--status", f"jax {jax.__version__},"))
  def test_information(self, option, start):
    shown = self.run_patched(option)
    self.assertEqual((shown.returncode, shown.stderr), (0, ""))
    self.assertStartsWith(shown.stdout, start)

  def test_import_alone(self):
    alone = self.run_python("-c", """if True:
        import sys, jax_patch
        print([n for n in dir(jax_patch) if n[0] != "_"])
        print("jax" in sys.modules)""")
    self.assertEqual(
        alone.stdout, "['apply', 'load_ipython_extension', 'patched', 'revert',"
        " 'status', 'unload_ipython_extension']\nFalse\n", alone.stderr)


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
