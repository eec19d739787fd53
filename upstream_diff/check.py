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

"""Whether the diff applies, and what the patched tree does, test by test.

Every suite runs in a fresh process on three sides: the unpatched copy, the
patched copy with this package out of the way, and, where the base is the
installed JAX, that JAX with the patch applied to it in memory.
"""

from collections.abc import Callable
import filecmp
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from upstream_diff.base import Base, BaseError, parse
from upstream_diff.diff import apply_to, unified_diff
from upstream_diff.patch import Files

_PROJECT = pathlib.Path(__file__).parent.parent

_SUITES = ("closure_composition_test.py", "closure_random_test.py",
           "custom_api_test.py", "ode_test.py")

_QUICK = 16  # One test of so many.

_CONFTEST = """
import sys
if {hide}:
  sys.modules["jax_patch"] = sys.modules["upstream_diff"] = None
def pytest_collection_modifyitems(items):
  items[:] = items[::{step}]
"""

Outcomes = dict[str, str]  # of each test: passed, failed, skipped


def check(base: Base, files: Files, quick: bool,
          log: Callable[[str], None]) -> bool:
  """Applies the diff to a copy of the base, and runs the suites there.

  Args:
    base: the tree.
    files: what the patch makes of it.
    quick: whether a sample of the tests is enough.
    log: is given what is done, and what came out, line by line.

  Returns:
    Whether all is as it should be.
  """
  with tempfile.TemporaryDirectory() as tmp:
    stock, patched = pathlib.Path(tmp, "stock"), pathlib.Path(tmp, "patched")
    log(f"base: jax {base.version} in {base.root}")
    for copy in (stock, patched):
      copy_tree(base, copy)
    apply_checked(stock, patched, files)
    log(f"the diff of {len(files)} files applies with no fuzz, and reverses")
    log("what it changes compiles, and has no unused or missing names")

    ok = True
    sides = {"stock": (stock, True), "patched copy": (patched, True)}
    if base.installed:
      sides["patched in memory"] = stock, False
    outcomes: dict[str, Outcomes] = {}
    for side, (tree, hide) in sides.items():
      to = pathlib.Path(tmp, f"tests_{side.replace(' ', '_')}")
      suites = _suites(to, hide, _QUICK if quick else 1)
      outcomes[side] = run_suites(
          f"this project's tests, {side}", suites, tree, log)
    if not base.package_only:
      for side in ("stock", "patched copy"):
        tree, _ = sides[side]
        suites = _upstream_suites(tree, files, _QUICK if quick else 1)
        outcomes[f"{side}, upstream's tests"] = run_suites(
            f"upstream's tests, {side}", suites, tree, log, "importlib")

    log("")
    for side, results in outcomes.items():
      log(f"{side + ':':32} {summary(results)}")
      if side.startswith("patched"):
        failed = [t for t, outcome in results.items() if outcome == "failed"]
        ok &= not failed and bool(results)
        for t in failed:
          log(f"  failed: {t}")
    if base.installed:
      copy, memory = outcomes["patched copy"], outcomes["patched in memory"]
      differ = [t for t in {**copy, **memory} if copy.get(t) != memory.get(t)]
      log(f"patched copy and patched in memory differ in {len(differ)} of "
          f"{len(copy)} tests")
      for t in differ:
        log(f"  {t}: {copy.get(t)}, in memory {memory.get(t)}")
      ok &= not differ
    log("all as it should be" if ok else "NOT as it should be")
    return ok


def copy_tree(base: Base, to: pathlib.Path):
  """Copies of a tree what the diff touches and what the suites need."""
  to.mkdir()
  names = ["jax"] if base.package_only else [
      "jax", "tests", "docs", "CHANGELOG.md", "pyproject.toml"]
  for name in names:
    source = base.root / name
    if source.is_dir():
      shutil.copytree(source, to / name, symlinks=True,
                      ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    elif source.exists():
      shutil.copy(source, to / name)


def _differences(stock: pathlib.Path, tree: pathlib.Path,
                 files: Files) -> list[str]:
  return [path for path, (before, _) in files.items()
          if (tree / path).exists() != (before is not None)
          or before is not None
          and not filecmp.cmp(stock / path, tree / path, shallow=False)]


def apply_checked(stock: pathlib.Path, patched: pathlib.Path, files: Files):
  """Applies a diff to a copy of a tree, or raises a BaseError.

  It has to apply with no fuzz, to reverse, and to leave Python that compiles
  and has no new unused or missing names.
  """
  diff = unified_diff(files)
  apply_to(patched, diff)
  apply_to(patched, diff, "--reverse")
  if left := _differences(stock, patched, files):
    raise BaseError(f"The diff does not reverse: {left}.")
  apply_to(patched, diff)
  _check_python(stock, patched, files)


def _check_python(stock: pathlib.Path, patched: pathlib.Path, files: Files):
  paths = [path for path in files if path.endswith(".py")]
  for path in paths:
    parse((patched / path).read_text(encoding="utf-8"), path)
  old, new = (_ruff(tree, paths) for tree in (stock, patched))
  if bad := [f for f in new if new.count(f) > old.count(f)]:
    raise BaseError("The patched tree has unused or missing names:\n"
                    + "\n".join(map(": ".join, bad)))


def _ruff(tree: pathlib.Path, paths: list[str]) -> list[tuple[str, str]]:
  if importlib.util.find_spec("ruff") is None:
    raise BaseError("The check needs ruff: pip install '.[test]'")
  done = subprocess.run(
      [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache",
       "--select=F", "--output-format=json",
       *[p for p in paths if (tree / p).exists()]],
      cwd=tree, capture_output=True, text=True)
  if done.returncode not in (0, 1):
    raise BaseError(f"ruff failed:\n{done.stderr}")
  return [(pathlib.Path(f["filename"]).relative_to(tree.resolve()).as_posix(),
           re.sub(r"line \d+", "line", f["message"]))
          for f in json.loads(done.stdout)]


def _suites(to: pathlib.Path, hide: bool, step: int) -> list[pathlib.Path]:
  # The tests and what they import, with the patch or without.
  shutil.copytree(_PROJECT / "tests", to,
                  ignore=shutil.ignore_patterns("__pycache__"))
  if hide:
    (to / "apply_patch.py").write_text("")
  (to / "conftest.py").write_text(_CONFTEST.format(hide=hide, step=step))
  return [to / suite for suite in _SUITES]


def _upstream_suites(tree: pathlib.Path, files: Files, step: int
                     ) -> list[pathlib.Path]:
  # Those that the diff touches, and in the patched tree also those it adds.
  (tree / "tests" / "conftest.py").write_text(
      _CONFTEST.format(hide=True, step=step))
  return [tree / path for path in files
          if path.startswith("tests/") and path.endswith("_test.py")
          and (tree / path).exists()]


def run_suites(title: str, suites: list[pathlib.Path], tree: pathlib.Path,
               log: Callable[[str], None], import_mode: str = "prepend"
               ) -> Outcomes:
  """Runs test files with the JAX of a tree, and returns what came out."""
  log(f"\n{title}:")
  # The tree comes before what is installed, this project after the tree.
  env = {**os.environ, "PYTHONSAFEPATH": "1", "JAX_PATCH_STOCK": "",
         "JAX_PATCH_ALL_TESTS": "1",
         "PYTHONPATH": os.pathsep.join(map(str, [tree, _PROJECT]))}
  found = subprocess.run(
      [sys.executable, "-c", "import jax; print(jax.__file__)"], env=env,
      cwd=tree.parent, capture_output=True, text=True)
  if found.returncode or not pathlib.Path(
      found.stdout.strip()).is_relative_to(tree):
    raise BaseError(
        f"The tree does not run with jaxlib "
        f"{importlib.metadata.version('jaxlib')}:\n{found.stderr[-2000:]}")
  with tempfile.TemporaryDirectory() as tmp:
    report = pathlib.Path(tmp, "report.xml")
    parallel = ["-n", "auto"] if importlib.util.find_spec("xdist") else []
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no",
         "--no-summary", "-W", "error", "-p", "no:cacheprovider",
         f"--import-mode={import_mode}",
         f"--rootdir={suites[0].parent}", "-c", os.devnull,
         f"--junitxml={report}", *parallel, *map(str, suites)],
        env=env, cwd=suites[0].parent, check=False)
    return _outcomes(report)


def _outcomes(report: pathlib.Path) -> Outcomes:
  if not report.exists():
    raise BaseError("The tests did not run.")
  outcomes = {}
  for case in xml.etree.ElementTree.parse(report).iter("testcase"):
    module = case.get("classname", "").split(".")
    name = ".".join([*module[-2:], case.get("name", "")])
    tags = {child.tag for child in case}
    outcomes[name] = ("failed" if tags & {"failure", "error"} else
                      "skipped" if "skipped" in tags else "passed")
  return outcomes


def summary(results: Outcomes) -> str:
  """Counts what came out."""
  counts = {kind: list(results.values()).count(kind)
            for kind in ("passed", "failed", "skipped")}
  return ", ".join(f"{n} {kind}" for kind, n in counts.items())
