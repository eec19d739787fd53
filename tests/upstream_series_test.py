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

"""Tests of the series: what belongs to which patch, and that it adds up."""

import os
import pathlib
import subprocess
import tempfile

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

import small_tree
from upstream_diff import __main__ as command
from upstream_diff import check_series
from upstream_diff import patch
from upstream_diff import series
from upstream_diff import stage
from upstream_diff.base import Base, BaseError
from upstream_diff.merge import statements, tree_of
from upstream_diff.notes import notes

jax.config.parse_flags_with_absl()

_LAST = len(series.PATCHES)


def _mirror(path):
  if path.startswith("tests/"):
    return (patch._TESTS / path.rpartition("/")[2]).read_text()
  return patch._MIRRORS[path][1].read_text()


def _names(text):
  # As the table has them.
  names = set()
  def visit(body, prefix):
    for s in statements(text, body):
      names.add(prefix + stage.name_of(s))
      if hasattr(s.node, "name"):
        visit(s.node.body, f"{prefix}{stage.name_of(s)}/")
  visit(tree_of(text).body, "")
  return names


class TableTest(jtu.JaxTestCase):

  def test_all_that_is_listed_is_there(self):
    for p in series.PATCHES:
      for path, items in p.owns.items():
        if path not in patch._MIRRORS and path not in patch._EXPECTED_TESTS:
          self.assertNotEmpty(_mirror(path))
          continue
        names = _names(_mirror(path))
        last = {name.rpartition("/")[2] for name in names}
        for item in items:
          if "*" not in item and "/doc:" not in item:
            self.assertIn(item, last if item.startswith("test") else names)

  def test_every_test_belongs_to_a_patch(self):
    for path in patch._EXPECTED_TESTS:
      for name in _names(_mirror(path)):
        if name.count("/") == 1 and "/test" in name:
          self.assertIsNotNone(series.owner(path, name.partition("/")[2]), name)

  def test_the_last_stage_is_the_mirror(self):
    for path in [*patch._MIRRORS, *patch._EXPECTED_TESTS]:
      text = _mirror(path)
      self.assertEqual(_names(stage.mirror_at(path, text, _LAST)), _names(text))

  def test_each_stage_has_more(self):
    for path in [*patch._MIRRORS, *patch._EXPECTED_TESTS]:
      text, before = _mirror(path), set()
      for k in range(_LAST + 1):
        at = stage.mirror_at(path, text, k)
        names = {n for n in _names(at or "")
                 if n.count("/") == ("/test" in n)}  # without what is local
        self.assertContainsSubset(before, names)
        before = names

  def test_nothing_before_the_first(self):
    for path in patch._MIRRORS:
      self.assertIsNone(stage.mirror_at(path, _mirror(path), 0))

  def test_listed_twice(self):
    patches, series.PATCHES = series.PATCHES, (
        series.Patch("x", {"a.py": ["f", "test_*"]}),) * 2
    self.addCleanup(setattr, series, "PATCHES", patches)
    self.assertIsNone(series.owner("a.py", "g"))
    for name in ("f", "test_f"):
      with self.assertRaisesRegex(AssertionError, "listed under 2 patches"):
        series.owner("a.py", name)

  def test_the_exact_name_comes_first(self):
    patches, series.PATCHES = series.PATCHES, (
        series.Patch("x", {"a.py": ["test_*"]}),
        series.Patch("y", {"a.py": ["test_f"]}))
    self.addCleanup(setattr, series, "PATCHES", patches)
    self.assertEqual(series.owner("a.py", "test_f"), 2)
    self.assertEqual(series.owner("a.py", "test_g"), 1)

  def test_texts(self):
    for p in series.PATCHES:
      self.assertLess(len(p.subject), 73)
      self.assertNotEndsWith(p.subject, ".")
      section, bullet = p.changelog
      self.assertIn(section, ("New features", "Changes", "Bug fixes"))
      for line in [*p.body.splitlines(), *bullet]:
        self.assertLess(len(line), 81)
      self.assertRegex(p.body, r"#\d{4,5}")
      for what in ("**Look at**", "**For users**", "**What may break**",
                   "**Threads**"):
        self.assertIn(what, p.note)
      self.assertIn(p.note, notes())


class SmallTreeTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    tmp = tempfile.TemporaryDirectory()
    self.addCleanup(tmp.cleanup)
    self.tmp = pathlib.Path(tmp.name)
    self.tree = self.tmp / "tree"
    small_tree.write(self.tree)
    self.whole = patch.changed_files(self.base())
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")}
    self.env = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull}
    for args in (["init", "-q"], ["config", "user.name", "A"],
                 ["config", "user.email", "a@b.c"], ["add", "."],
                 ["commit", "-qm", "base"]):
      self.git(*args)

  def base(self):
    return Base.find(str(self.tree))

  def git(self, *args):
    return subprocess.run(
        ["git", *args], cwd=self.tree, env=self.env, check=True, text=True,
        capture_output=True).stdout

  def write_series(self, name):
    here = os.getcwd()
    os.chdir(self.tree)
    try:
      code = command.main(["--series", str(self.tmp / name), "--upstream",
                           str(self.tree)])
    finally:
      os.chdir(here)
    self.assertEqual(code, 0)
    return sorted((self.tmp / name).glob("*"))

  def assertIsWhole(self):
    for path, (_, text) in self.whole.items():
      self.assertEqual((self.tree / path).read_text(), text, path)
    self.assertEmpty(self.git("status", "--porcelain"))

  def test_git_am(self):
    files = self.write_series("all")
    self.assertEqual([f.name[:4] for f in files],
                     [f"000{k}" for k in range(1, _LAST + 1)])
    for p, file in zip(series.PATCHES, files):
      self.git("am", "-q", str(file))
      self.assertEqual(self.git("log", "-1", "--format=%B").strip(),
                       f"{p.subject}\n\n{p.body}")
      for source in (self.tree / "jax").rglob("*.py"):
        compile(source.read_text(), str(source), "exec")
    self.assertIsWhole()

  def test_each_has_its_own_parts(self):
    for number, files in patch.series_files(self.base()).items():
      self.assertIn("CHANGELOG.md", files)
      self.assertTrue(any(path.startswith("tests/") and path.endswith(".py")
                          for path in files))
      self.assertTrue(any(path.startswith("jax/") for path in files))
      self.assertNotEmpty(check_series._added(files))

  def test_rebase_on_those_that_were_merged(self):
    files = self.write_series("all")
    for number, file in enumerate(files, 1):
      self.git("am", "-q", str(file))
      self.git("tag", f"merged-{number}")
    for number in range(1, _LAST):
      self.git("checkout", "-q", f"merged-{number}")
      left = self.write_series(f"after-{number}")
      self.assertEqual([f.name for f in left], [f.name for f in files[number:]])
      for file in left:
        self.git("am", "-q", str(file))
      self.assertIsWhole()

  def test_all_are_there(self):
    for file in self.write_series("all"):
      self.git("am", "-q", str(file))
    with self.assertRaisesRegex(BaseError, "has the patch already"):
      patch.series_files(self.base())

  def test_merged_with_changes(self):
    # What was changed in review has to be taken over, and not taken back.
    self.git("am", "-q", str(self.write_series("all")[0]))
    ode = self.tree / "jax/experimental/ode.py"
    text = ode.read_text()
    self.assertIn("def _merge(diff, nondiff):\n", text)
    ode.write_text(text.replace("def _merge(diff, nondiff):\n",
                                "def _merge(diff, nondiff):\n  assert diff\n"))
    self.git("commit", "-qam", "change")
    with self.assertRaisesRegex(BaseError, "ode.py has _merge, but otherwise"):
      patch.series_files(self.base())

  def test_a_test_to_drop_is_not_there(self):
    test = self.tree / "tests/custom_api_test.py"
    test.write_text(test.read_text().replace("_internal_helper_", "_other_"))
    with self.assertRaisesRegex(BaseError, "should have the test CustomJVP"):
      patch.changed_files(self.base())

  def test_directory_with_patches(self):
    self.write_series("all")
    self.assertEqual(command.main(
        ["--series", str(self.tmp / "all"), "--upstream", str(self.tree)]), 2)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
