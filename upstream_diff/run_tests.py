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

"""Test files with the JAX of a tree, each in a process of its own."""

import ast
from collections.abc import Callable, Iterable
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple
import xml.etree.ElementTree

from upstream_diff.base import BaseError, parse

PROJECT = pathlib.Path(__file__).parent.parent

# A test that parameters make several of is one method of a class.
_CONFTEST = """
import json
import pathlib
import sys
choice = json.loads(pathlib.Path(__file__).with_name("choice.json").read_text())
if choice["hide"]:
  sys.modules["jax_patch"] = sys.modules["upstream_diff"] = None
else:
  import jax_patch
  jax_patch.apply()
def pytest_collection_modifyitems(items):
  added, others = [], []
  for item in items:
    cls = f"{item.path.stem}.{getattr(item.parent, 'name', '')}"
    names = [n for n in choice["defined"] if f"{cls}.{item.name}".startswith(n)]
    method = max(names, key=len, default="")
    item.user_properties.append(("method", method))
    (added if method in choice["added"] else others).append(item)
  take = lambda items, step: items[::step] if step else []
  items[:] = [*take(added, choice["added_step"]), *take(others, choice["step"])]
"""


class Outcome(NamedTuple):
  """What came out of a test, which is made from a method."""
  what: str  # "passed", "failed" or "skipped"
  method: str  # "module.Class.test"


Outcomes = dict[str, Outcome]


def methods(text: str, path: str) -> dict[str, str]:
  """What each test method of a file is, by "module.Class.test"."""
  return {f"{pathlib.Path(path).stem}.{node.name}.{f.name}": ast.dump(f)
          for node in parse(text, path).body if isinstance(node, ast.ClassDef)
          for f in node.body if getattr(f, "name", "").startswith("test")}


def run(title: str, files: Iterable[pathlib.Path], tree: pathlib.Path,
        log: Callable[[str], None], *, step: int, added: Iterable[str] = (),
        added_step: int = 1, hide: bool = True,
        import_mode: str = "importlib") -> Outcomes:
  """Runs test files of one directory with the JAX of a tree.

  One of `step` tests runs, or none for zero, and of the methods `added`,
  "module.Class.test", one of `added_step`. `hide` keeps this project out, which
  otherwise patches JAX in memory.
  """
  log(f"\n{title}:")
  # The tree comes before what is installed, this project after the tree.
  env = {**os.environ, "PYTHONSAFEPATH": "1", "JAX_PATCH_ALL_TESTS": "1",
         "PYTHONPATH": os.pathsep.join(map(str, [tree, PROJECT]))}
  found = subprocess.run(
      [sys.executable, "-c", "import jax; print(jax.__file__)"], env=env,
      cwd=tree.parent, capture_output=True, text=True)
  if found.returncode or not pathlib.Path(
      found.stdout.strip()).is_relative_to(tree):
    raise BaseError(
        f"The tree does not run with jaxlib "
        f"{importlib.metadata.version('jaxlib')}:\n{found.stderr[-2000:]}")
  outcomes: Outcomes = {}
  for file in files:
    defined = methods(file.read_text(encoding="utf-8"), file.name)
    file.with_name("conftest.py").write_text(_CONFTEST)
    file.with_name("choice.json").write_text(json.dumps({
        "defined": [*defined], "added": [*added], "added_step": added_step,
        "step": step, "hide": hide}))
    with tempfile.TemporaryDirectory() as tmp:
      report = pathlib.Path(tmp, "report.xml")
      parallel = ["-n", "auto"] if importlib.util.find_spec("xdist") else []
      subprocess.run(
          [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no",
           "--no-summary", "-W", "error", "-p", "no:cacheprovider",
           f"--import-mode={import_mode}", f"--rootdir={file.parent}",
           "-c", os.devnull, f"--junitxml={report}", "-o",
           "junit_family=xunit1", *parallel, str(file)],
          env=env, cwd=file.parent, check=False)
      if not report.exists():
        raise BaseError(f"The tests of {file.name} did not run.")
      outcomes |= _outcomes(report)
  return outcomes


def _outcomes(report: pathlib.Path) -> Outcomes:
  outcomes = {}
  for case in xml.etree.ElementTree.parse(report).iter("testcase"):
    module = case.get("classname", "").split(".")
    name = ".".join([*module[-2:], case.get("name", "")])
    tags = {child.tag for child in case}
    method = case.find("properties/property[@name='method']")
    outcomes[name] = Outcome(
        "failed" if tags & {"failure", "error"} else
        "skipped" if "skipped" in tags else "passed",
        "" if method is None else method.get("value", ""))
  return outcomes


def count(outcomes: Iterable[Outcome], what: str) -> int:
  return sum(o.what == what for o in outcomes)


def summary(outcomes: Iterable[Outcome]) -> str:
  """Counts what came out."""
  outcomes = [*outcomes]
  return ", ".join(f"{count(outcomes, what)} {what}"
                   for what in ("passed", "failed", "skipped"))
