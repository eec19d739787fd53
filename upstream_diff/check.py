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

"""Whether the patches apply, and what the patched tree does, test by test.

The whole diff is checked with this project's tests on three sides: the
unpatched copy, the patched copy with this package out of the way, and, where
the base is the installed JAX, that JAX with the patch applied to it in memory.

Of the series, each patch has to stand on the ones before it: upstream's own
tests pass after it as before, and so do the tests of the patches before it. The
tests that it adds run without it and with it: what fails without it is counted.
"""

from collections.abc import Callable, Iterable
import filecmp
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from upstream_diff.base import Base, BaseError, parse
from upstream_diff.changes import (
    changed_files, Files, series_files, unlike_mirrors)
from upstream_diff.diff import apply_to, unified_diff
from upstream_diff.run_tests import (
    count, methods, Outcomes, PROJECT, run, summary)
from upstream_diff.series import PATCHES

_SUITES = ("closures/composition_test.py", "upstream/custom_api_test.py",
           "upstream/ode_test.py")

_QUICK, _QUICK_ADDED = 16, 4  # One test of so many.

_COLUMNS = ("patch", "`jax/`", "`tests/`", "new tests", "red before",
            "green after", "upstream's own")


def check(base: Base, files: Files, quick: bool,
          log: Callable[[str], None]) -> bool:
  """Applies the diff to a copy of the base, and runs the suites there.

  It says line by line what is done and what came out, and returns whether all
  is as it should be. For a quick check, a sample of the tests runs.
  """
  step = _QUICK if quick else 1
  with tempfile.TemporaryDirectory() as tmp:
    stock, patched = pathlib.Path(tmp, "stock"), pathlib.Path(tmp, "patched")
    log(f"base: jax {base.version} in {base.root}")
    for copy in (stock, patched):
      _copy_tree(base, copy)
    apply_checked(stock, patched, files)
    log(f"the diff of {len(files)} files applies, reverses, and compiles")

    sides = {"stock": (stock, True), "patched copy": (patched, True)}
    if base.installed:
      sides["patched in memory"] = stock, False
    outcomes: dict[str, Outcomes] = {}
    for side, (tree, hide) in sides.items():
      to = pathlib.Path(tmp, f"tests_{side.replace(' ', '_')}")
      shutil.copytree(
          PROJECT / "tests", to,
          ignore=shutil.ignore_patterns("__pycache__", "conftest.py"))
      title = f"this project's tests, {side}" + (
          ", whose failures are expected" if side == "stock" else "")
      outcomes[side] = run(
          title, [to / suite for suite in _SUITES], tree, log, step=step,
          hide=hide, import_mode="prepend")

    log("")
    ok = True
    for side, results in outcomes.items():
      log(f"{side + ':':20} {summary(results.values())}"
          + (", as expected" if side == "stock" else ""))
      if side != "stock":
        failed = [t for t, o in results.items() if o.what == "failed"]
        ok &= not failed and bool(results)
        for t in failed:
          log(f"  failed: {t}")
    if base.installed:
      copy, memory = outcomes["patched copy"], outcomes["patched in memory"]
      differ = [t for t in {**copy, **memory} if copy.get(t) != memory.get(t)]
      log(f"patched copy and patched in memory differ in {len(differ)} of "
          f"{len(copy)} tests")
      for t in differ:
        log(f"  {t}")
      ok &= not differ
    ok &= _ends_at_mirrors(base, files, log)
    log("all as it should be" if ok else "NOT as it should be")
    return ok


def check_series(base: Base, quick: bool, log: Callable[[str], None]
                 ) -> tuple[bool, str]:
  """Does the same for the series, patch by patch, and returns a table, too."""
  if base.package_only:
    raise BaseError(
        f"There are no tests of upstream in {base.root}: use --upstream.")
  series, whole = series_files(base), changed_files(base)
  step, added_step = (_QUICK, _QUICK_ADDED) if quick else (1, 1)
  with tempfile.TemporaryDirectory() as tmp:
    before = pathlib.Path(tmp, "0")
    _copy_tree(base, before)
    log(f"base: jax {base.version} in {base.root}")
    own = run("upstream's own, before", _test_files(before, whole), before,
              log, step=step)
    bad = {t for t, o in own.items() if o.what == "failed"}
    ok, rows, all_added = True, [], set()
    for number, files in series.items():
      title = f"{number}. {PATCHES[number - 1].subject}"
      log(f"\n{title}")
      tree = pathlib.Path(tmp, str(number))
      shutil.copytree(before, tree, symlinks=True)
      apply_checked(before, tree, files)
      log("applies, reverses, and compiles")
      added = added_tests(files)
      all_added |= added
      red = run("new tests, before, whose failures are expected",
                _test_files(tree, files), before, log, step=0, added=added,
                added_step=added_step)
      both = run("all tests, after", _test_files(tree, whole), tree, log,
                 step=step, added=added, added_step=added_step)
      after = both.values()
      green = [o for o in after if o.method in added]
      own = [o for o in after if o.method not in all_added]
      log(f"new tests, before: {summary(red.values())}; after: "
          f"{summary(green)}")
      log(f"upstream's own: {summary(own)}")
      log(f"tests of earlier patches: "
          f"{summary(o for o in after if o.method in all_added - added)}")
      for t, o in red.items():
        if o.what != "failed":
          log(f"  {o.what} before: {t}")
      failed = [t for t, o in both.items()
                if o.what == "failed" and t not in bad]
      for t in failed:
        log(f"  failed: {t}")
      num_red = count(red.values(), "failed")
      # The tests of a patch can need a newer jaxlib.
      skips_all = {o.what for o in red.values()} == {"skipped"}
      ok &= not failed and bool(own) and (
          num_red > 0 or skips_all or not added)
      rows.append(_row(title, files, len(red), num_red,
                       count(green, "passed"), summary(own)))
      before = tree
  ok &= _ends_at_mirrors(base, whole, log)
  rows.append(_row("all", whole, "", "", "", ""))
  sampled = ", a sample of the tests" if quick else ""
  head = f"{_cells(_COLUMNS)}{_cells(['---'] * len(_COLUMNS))}"
  table = f"On jax {base.version}{sampled}:\n\n{head}{''.join(rows)}"
  log(f"\n{table}")
  log("all as it should be" if ok else "NOT as it should be")
  return ok, table


def added_tests(files: Files) -> set[str]:
  """Names the tests that are new or changed, "module.Class.test"."""
  added = set()
  for path, (before, after) in files.items():
    if path.startswith("tests/") and path.endswith("_test.py"):
      old = methods(before or "", path)
      added |= {name for name, text in methods(after, path).items()
                if old.get(name) != text}
  return added


def _row(title: str, files: Files, *cells) -> str:
  added: dict[str, list[int]] = {}
  with tempfile.TemporaryDirectory() as tmp:
    numbers = apply_to(pathlib.Path(tmp), unified_diff(files), "--numstat")
  for line in numbers.splitlines():
    plus, minus, path = line.split("\t")
    counts = added.setdefault(path.partition("/")[0], [0, 0])
    counts[0] += int(plus)
    counts[1] += int(minus)
  lines = ["+{} −{}".format(*added.get(top, (0, 0)))
           for top in ("jax", "tests")]
  return _cells([title, *lines, *map(str, cells)])


def _cells(texts: Iterable[str]) -> str:
  return f"| {' | '.join(texts)} |\n"


def _ends_at_mirrors(base: Base, files: Files, log) -> bool:
  """Says whether the patched tree has all that the mirrors have."""
  if unlike := unlike_mirrors(base.changed(files)):
    log(f"the patches do not end at the mirrors: {', '.join(unlike)}")
  return not unlike


def _copy_tree(base: Base, to: pathlib.Path):
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


def _test_files(tree: pathlib.Path, files: Files) -> list[pathlib.Path]:
  """Test files that a patch touches, as far as the tree has them."""
  return [tree / path for path in sorted(files)
          if path.startswith("tests/") and path.endswith("_test.py")
          and (tree / path).exists()]


def apply_checked(stock: pathlib.Path, patched: pathlib.Path, files: Files):
  """Applies a diff to a copy of a tree, or raises a BaseError.

  It has to apply with no fuzz, to reverse, and to leave Python that compiles
  and has no new unused or missing names.
  """
  diff = unified_diff(files)
  for options in (), ("--reverse",):
    apply_to(patched, diff, *options)
  if left := [path for path, (before, _) in files.items()
              if (patched / path).exists() != (before is not None)
              or before is not None and not filecmp.cmp(
                  stock / path, patched / path, shallow=False)]:
    raise BaseError(f"The diff does not reverse: {left}.")
  apply_to(patched, diff)
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
