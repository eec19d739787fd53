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

"""``python -m jax_patch`` runs programs on a patched JAX."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import jax_patch

jax.config.parse_flags_with_absl()


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
      sys.excepthook is sys.__excepthook__]))
  sys.stdout.flush()
  if "spawn" in sys.argv:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
      print(pool.map(square, [3]))
  if "exit" in sys.argv: sys.exit(3)
  if "message" in sys.argv: sys.exit("a message")
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
  assert not any("_children" in path for path in sys.path)
  from jax import closure_convert
  return f"{label} {closure_convert.__module__}"
LOOK = "import program, sys; print(program.look(sys.argv[1]))"
# This process does not import JAX.
RELAY = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
def run(*args):
  print(subprocess.run([sys.executable, "-c", *args], check=True,
                       stdout=subprocess.PIPE, text=True).stdout, end="")
if __name__ == "__main__":
  for method in ("spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
      print(*pool.map(look, [method]))
  run(LOOK, "subprocess")
  run(RELAY, sys.executable, "-c", LOOK, "grandchild")
  run("import sitecustomize; print(*sitecustomize.OWN)")
"""

# The environment's own, which --children hides.
SITECUSTOMIZE = """
import sys
OWN = __name__, __file__
if "subprocess" in sys.argv:
  raise ValueError("a failure")
"""

POOL_PROGRAM = """
import jax_patch
jax_patch.apply()
from jax import closure_convert
import multiprocessing
def look(_):
  return closure_convert.__module__
if __name__ == "__main__":
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(*pool.map(look, [0]))
"""


class MainTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.directory = pathlib.Path(os.path.realpath(directory.name))
    root = os.path.dirname(os.path.dirname(os.path.abspath(jax_patch.__file__)))
    self.env = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error"}
    for name in ("XLA_FLAGS", "JAX_ENABLE_X64", "PYTHONSAFEPATH"):
      self.env.pop(name, None)
    for name in ("program.py", "package/__main__.py", "folder/__main__.py"):
      path = self.directory / name
      path.parent.mkdir(exist_ok=True)
      path.write_text(PROGRAM)
    (self.directory / "package/__init__.py").touch()
    (self.directory / "empty").mkdir()

  def run_python(self, *args):
    return subprocess.run([sys.executable, *args], cwd=self.directory,
                          env=self.env, capture_output=True, text=True)

  def run_patched(self, *args):
    return self.run_python("-m", "jax_patch", *args)

  @parameterized.parameters(
      ("program.py", "-m", "--help", "exit"),
      ("folder/../program.py", "raise"),
      ("./program.py", "message"),
      ("program.py", "interrupt"),
      ("program.py", "spawn"),
      ("folder", "raise"),
      ("empty",),
      ("-m", "package", "-c"),
      ("-m", "program", "exit"),
      ("-c", PROGRAM, "x"),
      ("missing.py",),
      ("-m", "missing"),
      ("-m", "package.missing"),
  )
  def test_as_if_run_directly(self, *args):
    direct, ours = self.run_python(*args), self.run_patched(*args)
    self.assertEqual(ours.stdout, direct.stdout)
    # Running a folder or a module, python shows frames of runpy, too.
    self.assertEqual(ours.stderr, "".join(
        line for line in direct.stderr.splitlines(keepends=True)
        if "<frozen runpy>" not in line))
    self.assertEqual(ours.returncode, direct.returncode)
    if "missing" not in args[-1] and "empty" not in args:
      self.assertNotEmpty(json.loads(ours.stdout.splitlines()[0]))

  def test_syntax_error(self):
    (self.directory / "bad.py").write_text("def f(:")
    direct, ours = self.run_python("bad.py"), self.run_patched("bad.py")
    self.assertEqual(ours.stderr, direct.stderr)
    self.assertEqual(ours.returncode, 1)
    self.assertEmpty(list(self.directory.glob("__pycache__/*")))

  def test_traceback_of_a_module(self):
    ours = self.run_patched("-m", "package", "raise")
    self.assertEqual(ours.returncode, 1)
    self.assertIn("The above exception was the direct cause", ours.stderr)
    self.assertNotIn("runpy", ours.stderr)
    self.assertNotIn("jax_patch", ours.stderr)

  def test_program_that_uses_jax(self):
    (self.directory / "program.py").write_text(textwrap.dedent(JAX_PROGRAM))
    ours = self.run_patched("program.py")
    self.assertEqual(ours.returncode, 1, ours.stderr)
    self.assertIn("NameError: name 'bad' is not defined", ours.stderr)
    frames = [line.strip().split('"')[1] for line in ours.stderr.splitlines()
              if line.strip().startswith("File ")]
    self.assertEqual(set(frames), {str(self.directory / "program.py")})

  def test_package_that_imports_jax(self):
    (self.directory / "package/__init__.py").write_text(
        "from jax import closure_convert")
    (self.directory / "package/__main__.py").write_text(
        "from package import closure_convert as f; print(f.__module__)")
    ours = self.run_patched("-m", "package")
    self.assertEqual((ours.stdout, ours.stderr),
                     ("jax_patch.custom_derivatives\n", ""))

  @parameterized.parameters(True, False)
  def test_children(self, patched):
    (self.directory / "program.py").write_text(CHILDREN_PROGRAM)
    own = self.directory / "sitecustomize.py"
    own.write_text(SITECUSTOMIZE)
    self.env["PYTHONPATH"] += os.pathsep + str(self.directory)
    ours = self.run_patched(*(["--children"] if patched else []), "program.py")
    holder = "jax_patch" if patched else "jax._src"
    self.assertEqual(
        ours.stdout.splitlines(),
        [f"{label} {holder}.custom_derivatives" for label in (
            "spawn", "forkserver", "subprocess", "grandchild")]
        + [f"sitecustomize {own}"], ours.stderr)
    # Python reports an error in sitecustomize, and continues.
    self.assertEqual(ours.stderr.splitlines()[1:], ["ValueError: a failure"])
    self.assertEqual(ours.returncode, 0)

  def test_pool_whose_file_applies_the_patch(self):
    (self.directory / "program.py").write_text(POOL_PROGRAM)
    ours = self.run_python("program.py")
    self.assertEqual((ours.stdout, ours.stderr),
                     ("jax_patch.custom_derivatives\n", ""))

  def test_children_without_pythonpath_or_site(self):
    for option in ("-E", "-S"):
      wrong = self.run_python(
          option, "-c", "import sys; sys.path[:0] = sys.argv.pop(1).split(':');"
          "import runpy; runpy.run_module('jax_patch', run_name='__main__')",
          ":".join(p for p in sys.path if p), "--children", "program.py")
      self.assertEqual(wrong.returncode, 2)
      self.assertIn("error: --children needs PYTHONPATH", wrong.stderr)

  def test_usage(self):
    shown = self.run_patched("--help")
    self.assertEqual((shown.returncode, shown.stderr), (0, ""))
    self.assertStartsWith(shown.stdout, "usage: python -m jax_patch ")
    for error, *args in (
        ("no program given",),
        ("unknown option --nonsense", "--nonsense", "program.py"),
        ("unknown option -O. Python's own options go before -m:"
         " python -O -m jax_patch ...", "-O", "program.py"),
        ("-m needs an argument", "-m"),
        ("--status takes no arguments", "--status", "x")):
      wrong = self.run_patched(*args)
      self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
      self.assertStartsWith(wrong.stderr, "usage: python -m jax_patch ")
      self.assertEndsWith(wrong.stderr, f"\nerror: {error}\n")

  def test_version(self):
    shown = self.run_patched("--version")
    self.assertEqual((shown.returncode, shown.stdout, shown.stderr),
                     (0, f"jax_patch {jax_patch.__version__}\n", ""))

  def test_status(self):
    shown = self.run_patched("--status")
    self.assertEqual((shown.returncode, shown.stderr), (0, ""))
    self.assertIn(f"jax {jax.__version__},", shown.stdout)
    self.assertIn("the patch is not applied, and can be", shown.stdout)
    self.assertIn("stock    jax.closure_convert\n", shown.stdout)
    self.assertIn("not covered:\n", shown.stdout)
    self.assertIn("--children", shown.stdout)

  def test_import_alone(self):
    alone = self.run_python("-c", textwrap.dedent("""
        import sys, jax_patch
        print([n for n in dir(jax_patch) if n[0] != "_"])
        print([n for n in sys.modules if n.partition(".")[0] == "jax"])
        print(sorted(n for n in sys.modules if n.startswith("jax_patch.")))"""))
    self.assertEqual(
        alone.stdout, "['apply', 'load_ipython_extension', 'patched', 'revert',"
        " 'status', 'unload_ipython_extension']\n[]\n"
        "['jax_patch._delivery', 'jax_patch._delivery.docstring',"
        " 'jax_patch._delivery.patch', 'jax_patch._delivery.stale',"
        " 'jax_patch._delivery.status']\n", alone.stderr)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
