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

"""Each patch of the series has its own parts; all of them make the diff."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

import fake_jax_tree
from upstream_diff import __main__ as command
from upstream_diff import changes
from upstream_diff import check
from upstream_diff import run_tests
from upstream_diff import series
from upstream_diff.base import Base, BaseError

jax.config.parse_flags_with_absl()

_LAST = len(series.PATCHES)


class PatchesTest(jtu.JaxTestCase):

  def test_forms_of_their_own_are_named(self):
    for p in series.PATCHES:
      for file in p.directory.rglob("*.py"):
        path = file.relative_to(p.directory).as_posix()
        named = {name for what in ("adds", "changes")
                 for name in p.names(what).get(path, ())}
        if path not in p.content.get("files", ()):
          self.assertContainsSubset(
              series.defined(file.read_text()) - {"map", "zip"}, named)

  def test_messages(self):
    for p in series.PATCHES:
      for line in [p.subject, *p.body.splitlines()]:
        self.assertLess(len(line), 81)
      for line in (p.changelog or ("", []))[1]:
        self.assertLess(len(line), 81)
      self.assertRegex(p.body, r"#\d{4,5}")
      self.assertIn(p.note, command.notes())


class RunTestsTest(jtu.JaxTestCase):

  def test_each_file_by_itself(self):
    with tempfile.TemporaryDirectory() as tmp:
      tree = pathlib.Path(tmp).resolve()
      for path, text in {
          "jax/__init__.py": "", "jax/sub.py": "",
          "tests/a_test.py": "import unittest, jax.sub\n"
                             "class A(unittest.TestCase):\n"
                             "  def test_x(self): jax.sub\n"
                             "  def test_x_more(self): assert False\n"
                             "  def test_y(self): pass\n",
          "tests/b_test.py": "import unittest, jax\n"
                             "class B(unittest.TestCase):\n"
                             "  def test_x(self): jax.sub\n"}.items():
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text(text)
      files = sorted((tree / "tests").glob("*_test.py"))
      ignore = lambda line: None
      self.assertEqual(
          {t: o.what for t, o in run_tests.run(
              "", files, tree, ignore, step=1).items()},
          {"a_test.A.test_x": "passed", "a_test.A.test_x_more": "failed",
           "a_test.A.test_y": "passed", "b_test.B.test_x": "failed"})
      only = run_tests.run("", files[:1], tree, ignore, step=0,
                           added=["a_test.A.test_x"])
      self.assertEqual([*only], ["a_test.A.test_x"])


class SmallTreeTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    tmp = tempfile.TemporaryDirectory()
    self.addCleanup(tmp.cleanup)
    self.tmp = pathlib.Path(tmp.name)
    self.tree = self.tmp / "tree"
    fake_jax_tree.write(self.tree)
    self.whole = changes.changed_files(self.base())
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
    code = command.main(["--series", str(self.tmp / name), "--upstream",
                         str(self.tree)])
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
      self.git("am", "-q", "--keep-non-patch", str(file))
      self.assertEqual(self.git("log", "-1", "--format=%B").strip(),
                       f"{p.subject}\n\n{p.body}")
      for source in (self.tree / "jax").rglob("*.py"):
        compile(source.read_text(), str(source), "exec")
    self.assertIsWhole()

  def test_each_has_its_own_parts(self):
    all_files = changes.series_files(self.base()).values()
    for files in all_files:
      self.assertTrue(any(path.startswith("jax/") for path in files))
    # The docstring's examples run as they are.
    self.assertLen([files for files in all_files if check.added_tests(files)],
                   _LAST - 1)

  def test_ends_at_the_mirrors(self):
    base = self.base().changed(self.whole)
    self.assertEmpty(changes.unlike_mirrors(base))

  def test_rebase_on_those_that_were_merged(self):
    files = self.write_series("all")
    for number, file in enumerate(files, 1):
      self.git("am", "-q", "--keep-non-patch", str(file))
      self.git("tag", f"merged-{number}")
    for number in range(1, _LAST):
      self.git("checkout", "-q", f"merged-{number}")
      left = self.write_series(f"after-{number}")
      self.assertEqual([f.name for f in left], [f.name for f in files[number:]])
      for file in left:
        self.git("am", "-q", "--keep-non-patch", str(file))
      self.assertIsWhole()

  def test_all_are_there(self):
    for file in self.write_series("all"):
      self.git("am", "-q", "--keep-non-patch", str(file))
    with self.assertRaisesRegex(BaseError, "has the patch already"):
      changes.series_files(self.base())

  def test_merged_with_changes(self):
    # What was changed in review has to be taken over, and not taken back.
    self.git("am", "-q", "--keep-non-patch", str(self.write_series("all")[0]))
    ode = self.tree / "jax/experimental/ode.py"
    text = ode.read_text()
    self.assertIn("def _merge(diff, nondiff):\n", text)
    ode.write_text(text.replace("def _merge(diff, nondiff):\n",
                                "def _merge(diff, nondiff):\n  assert diff\n"))
    self.git("commit", "-qam", "change")
    with self.assertRaisesRegex(BaseError, "ode.py has _merge already, "):
      changes.series_files(self.base())

  def test_what_goes_is_not_there(self):
    test = self.tree / "tests/custom_api_test.py"
    test.write_text(test.read_text().replace("_internal_helper_", "_other_"))
    with self.assertRaisesRegex(BaseError, "should be there and is not"):
      changes.changed_files(self.base())

  def test_what_goes_is_used(self):
    user = self.tree / "jax/_src/user.py"
    for text in ("from jax._src.custom_derivatives import (\n    partial,\n"
                 "    partition_list)\n",
                 "from jax._src import custom_derivatives\n"
                 "x = custom_derivatives.partition_list\n"):
      user.write_text(text)
      with self.assertRaisesRegex(BaseError, "Other files use partition_list"):
        changes.changed_files(self.base())

  def test_directory_with_patches(self):
    self.write_series("all")
    before = {f: f.read_text() for f in (self.tmp / "all").glob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "upstream_diff", "--series", self.tmp / "all",
         "--upstream", self.tree], cwd=run_tests.PROJECT, env=self.env,
        capture_output=True, text=True)
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, "There are patches in .* Remove them, or name")
    self.assertEqual({f: f.read_text() for f in (self.tmp / "all").glob("*")},
                     before)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
