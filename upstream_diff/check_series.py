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

"""Whether each patch of the series stands on the ones before it.

Each has to apply with no fuzz and to reverse. Upstream's own tests have to pass
after it as before, and so have the tests of the patches before it. The tests
that it adds run without it and with it: what fails without it is counted.
"""

import ast
from collections.abc import Callable, Iterable
import json
import pathlib
import shutil
import tempfile

from upstream_diff.base import Base, BaseError, parse
from upstream_diff.check import (
    apply_checked, copy_tree, Outcomes, run_suites, summary)
from upstream_diff.diff import apply_to, unified_diff
from upstream_diff.patch import changed_files, Files, series_files
from upstream_diff.series import PATCHES

_QUICK_OWN, _QUICK_ADDED = 16, 4  # One test of so many.

_CONFTEST = """
import json
import pathlib
import sys
sys.modules["jax_patch"] = sys.modules["upstream_diff"] = None
choice = json.loads(pathlib.Path(__file__).with_name("choice.json").read_text())
def is_added(item):
  module = item.path.stem
  cls = getattr(item.parent, "name", "")
  names = [n for n in choice["all"].get(f"{module}.{cls}", [])
           if item.name.startswith(n)]
  name = max(names, key=len, default="")
  return f"{module}.{cls}.{name}" in choice["added"]
def pytest_collection_modifyitems(items):
  added = [i for i in items if is_added(i)]
  own = [i for i in items if not is_added(i)] if choice["own"] else []
  step = choice["added_step"] if len(added) > 40 else 1
  items[:] = added[::step] + own[::choice["own_step"]]
"""

_COLUMNS = ("patch", "`jax/`", "`tests/`", "new tests", "red before",
            "green after", "upstream's own")


def check_series(base: Base, quick: bool, log: Callable[[str], None]
                 ) -> tuple[bool, str]:
  """Applies the series to a copy of the base, patch by patch, and tests each.

  Args:
    base: the tree.
    quick: whether a sample of the tests is enough.
    log: is given what is done, and what came out, line by line.

  Returns:
    Whether all is as it should be, and the table.
  """
  if base.package_only:
    raise BaseError(
        f"There are no tests of upstream in {base.root}: use --upstream.")
  series, whole = series_files(base), changed_files(base)
  with tempfile.TemporaryDirectory() as tmp:
    before = pathlib.Path(tmp, "0")
    copy_tree(base, before)
    log(f"base: jax {base.version} in {base.root}")
    own_tests = sorted({p for patch in PATCHES for p in patch.owns
                        if base.exists(p) and p.startswith("tests/")})
    own = _run("upstream's own, before", before, before, own_tests, {*()}, True,
               quick, log)
    bad = {t for t, outcome in own.items() if outcome == "failed"}
    ok, rows, all_added = True, [], set()
    for number, files in series.items():
      title = f"{number}. {PATCHES[number - 1].subject}"
      log(f"\n{title}")
      tree = pathlib.Path(tmp, str(number))
      shutil.copytree(before, tree, symlinks=True)
      apply_checked(before, tree, files)
      log("applies with no fuzz, reverses, and compiles")
      added = _added(files)
      all_added |= added
      tests = sorted({*own_tests, *(p for p in files if _is_test(p))})
      red = _run("new tests, before", tree, before,
                 [p for p in tests if p in files], added, False, quick, log)
      both = _run("all tests, after", tree, tree, tests, added, True, quick,
                  log)
      green = {t: both.get(t, "failed") for t in red}
      kept = {t: o for t, o in both.items() if t not in red}
      own = {t: o for t, o in kept.items()
             if _definition(t, tree) not in all_added}
      log(f"new tests, before: {summary(red)}; after: {summary(green)}")
      log(f"upstream's own: {summary(own)}; with those of earlier patches: "
          f"{summary(kept)}")
      for t in sorted(red):
        if red[t] != "failed":
          log(f"  {red[t]} before: {t}")
      failed = [t for t, o in both.items() if o == "failed" and t not in bad]
      for t in failed:
        log(f"  failed: {t}")
      ok &= not failed and "failed" in red.values() and bool(own)
      rows.append(_row(title, files, red, green, own))
      before = tree
    if left := [path for path, (_, text) in whole.items()
                if (before / path).read_text(encoding="utf-8") != text]:
      raise BaseError(f"The series does not end at the whole diff: {left}.")
    log("\nthe last tree is the one of the whole diff")
  rows.append(_row("all", whole, {}, {}, {}))
  sampled = ", a sample of the tests" if quick else ""
  head = f"{_cells(_COLUMNS)}{_cells(['---'] * len(_COLUMNS))}"
  table = f"On jax {base.version}{sampled}:\n\n{head}{''.join(rows)}"
  log(f"\n{table}")
  log("all as it should be" if ok else "NOT as it should be")
  return ok, table


def _is_test(path: str) -> bool:
  return path.startswith("tests/") and path.endswith("_test.py")


def _tests(text: str, path: str) -> dict[tuple[str, str], str]:
  # What each test method is, by class and name.
  return {(node.name, f.name): ast.dump(f)
          for node in parse(text, path).body if isinstance(node, ast.ClassDef)
          for f in node.body if getattr(f, "name", "").startswith("test")}


def _added(files: Files) -> set[str]:
  # "module.Class.test" of those that are new or changed.
  added = set()
  for path, (before, after) in files.items():
    if _is_test(path):
      old = _tests(before or "", path)
      added |= {f"{pathlib.Path(path).stem}.{cls}.{name}"
                for (cls, name), text in _tests(after, path).items()
                if old.get((cls, name)) != text}
  return added


def _definition(test: str, tree: pathlib.Path) -> str:
  # The method that a test is made from: parameters make several of one.
  module, cls, name = test.split(".", 2)
  path = tree / "tests" / f"{module}.py"
  names = [n for c, n in _tests(path.read_text(encoding="utf-8"), path.name)
           if c == cls and name.startswith(n)]
  return f"{module}.{cls}.{max(names, key=len, default=name)}"


def _run(title: str, tree: pathlib.Path, jax: pathlib.Path, tests: list[str],
         added: set[str], own: bool, quick: bool, log) -> Outcomes:
  # The tests of one tree with the JAX of another.
  defined: dict[str, list[str]] = {}
  for path in tests:
    file = tree / path
    for cls, name in _tests(file.read_text(encoding="utf-8"), path):
      defined.setdefault(f"{file.stem}.{cls}", []).append(name)
  (tree / "tests" / "conftest.py").write_text(_CONFTEST)
  (tree / "tests" / "choice.json").write_text(json.dumps({
      "all": defined, "added": sorted(added), "own": own,
      "added_step": _QUICK_ADDED if quick else 1,
      "own_step": _QUICK_OWN if quick else 1}))
  return run_suites(title, [tree / p for p in tests], jax, log, "importlib")


def _row(title: str, files: Files, red: Outcomes, green: Outcomes,
         own: Outcomes) -> str:
  added: dict[str, list[int]] = {}
  with tempfile.TemporaryDirectory() as tmp:
    numbers = apply_to(pathlib.Path(tmp), unified_diff(files), "--numstat")
  for line in numbers.splitlines():
    plus, minus, path = line.split("\t")
    counts = added.setdefault(path.partition("/")[0], [0, 0])
    counts[0] += int(plus)
    counts[1] += int(minus)
  count = lambda results, kind: sum(o == kind for o in results.values())
  lines = ["+{} −{}".format(*added.get(top, (0, 0)))
           for top in ("jax", "tests")]
  cells = [title, *lines]
  cells += [str(len(red)), str(count(red, "failed")),
            str(count(green, "passed")), summary(own)] if red else [""] * 4
  return _cells(cells)


def _cells(texts: Iterable[str]) -> str:
  return f"| {' | '.join(texts)} |\n"
