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

"""The diff and the series, of the installed JAX and of a small source tree."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import unittest

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import fake_jax_tree
from upstream_diff import __main__ as command
from upstream_diff import changes
from upstream_diff import check
from upstream_diff import run_tests
from upstream_diff import series
from upstream_diff.base import Base, BaseError
from upstream_diff.diff import mail

jax.config.parse_flags_with_absl()


@unittest.skipIf(jax.version._version_as_tuple(jax.__version__) < (0, 11),
                 "The diff is made for later versions.")
class InstalledTest(fake_jax_tree.FakeTreeTestCase):

  def test_applies_and_reverses(self):
    files = changes.changed_files(Base.find(None))
    self.assertContainsSubset(
        ["jax/_src/custom_derivatives.py", "jax/custom_derivatives.py",
         "jax/experimental/ode.py", "jax/_src/hashable_array.py",
         "jax/_src/jaxpr_key.py"], files)
    before = {path: old for path, (old, _) in files.items() if old is not None}
    after = {path: new for path, (_, new) in files.items()}
    for path, text in after.items():
      self.assertStartsWith(path, "jax/")  # there are no tests and documents
      self.assertNotIn("jax_patch", text)
    stock, patched = self.tmp / "stock", self.tmp / "patched"
    fake_jax_tree.write(stock, before)
    fake_jax_tree.write(patched, before)
    check.apply_checked(stock, patched, files)
    self.assertEqual(fake_jax_tree.read(patched), after)

  def test_command(self):
    out = self.tmp / "a.diff"
    to_file, to_stdout = (subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "upstream_diff", *args],
        cwd=run_tests.PROJECT, capture_output=True, text=True, check=True)
        for args in (["-o", out], []))
    self.assertEqual(to_file.stdout, "")
    self.assertEqual(to_stdout.stdout, out.read_text())  # in another process
    self.assertIn("\n+++ b/jax/_src/custom_derivatives.py\n", to_stdout.stdout)
    self.assertNotRegex(to_stdout.stderr, r"\| +jax\n")  # is not imported


class FakeTreeTest(fake_jax_tree.FakeTreeTestCase):

  def patched(self, path):
    return self.changed_files()[path][1]

  def test_definitions(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    old = fake_jax_tree.FILES["jax/_src/custom_derivatives.py"]
    # The definition, with what is new after it, where the old one was.
    places = [new.index(text) for text in (
        "### Closures", "def closure_convert", "def closure_to_pytree",
        "### After")]
    self.assertEqual(places, sorted(places))
    self.assertNotRegex(new, r"def partition_list\(|_maybe_perturbed")
    self.assertIn(old[old.index("\n\n### After"):], new)
    self.assertIn("  closure_convert as closure_convert,\n"
                  "  closure_to_pytree as closure_to_pytree,\n"
                  "  linear_call as linear_call,\n",
                  self.patched("jax/custom_derivatives.py"))

  def test_rules_are_replaced(self):
    ode = self.patched("jax/experimental/ode.py")
    self.assertEndsWith(ode, "\n_odeint.defvjp(_odeint_fwd, _odeint_rev, "
                        "symbolic_zeros=True)\n")
    self.assertEqual(ode.count("defvjp"), 1)

  def test_imports(self):
    path = "jax/_src/custom_derivatives.py"
    head = self.patched(path).partition("\nmap = ")[0]
    self.assertIn("\n\nimport numpy as np\n\nfrom jax._src import ", head)
    self.assertIn("from jax._src.jaxpr_key import jaxpr_key", head)
    # Those that are needed no more go, unless other files use them.
    self.assertNotRegex(head, r"\bcache\b")
    (self.tree / "jax/_src/user.py").write_text(
        "from jax._src import custom_derivatives\n"
        "x = custom_derivatives.cache\n")
    self.assertRegex(self.patched(path),
                     r"from jax._src.util import \(?\s*cache, ")
    ode = self.patched("jax/experimental/ode.py")
    self.assertIn("from jax import custom_derivatives\nfrom jax import lax\n",
                  ode)
    self.assertNotIn("from jax.experimental.ode", ode)

  def test_tests(self):
    new = self.patched("tests/custom_api_test.py")
    self.assertEqual(
        re.findall(r"^class (\w+)\(jtu", new, re.MULTILINE),
        ["CustomJVPTest", "ClosureConvertTest"])
    # The tests of the old behavior go, with their imports.
    self.assertNotIn("maybe_perturbed", new)
    self.assertNotIn("from jax._src import custom_derivatives", new)
    self.assertNotIn("jax.config.parse_flags_with_absl", new)
    self.assertEqual(new.count("if __name__"), 1)
    ode = self.patched("tests/ode_test.py")
    self.assertIn("from absl.testing import absltest, parameterized\n", ode)
    self.assertIn("def test_decay(self):\n    self.assertTrue(partial(", ode)

  def test_documents(self):
    self.assertRegex(
        self.patched("CHANGELOG.md"),
        r"## Unreleased\n\n\* New features\n  \* .*closure_to_pytree"
        r"(.|\n)*\n\n\* Changes\n  \* Something else\.\n  \* .*odeint"
        r"(.|\n)*#5222(.|\n)*\n\n\* Bug fixes\n  \* Another")
    self.assertRegex(self.patched("docs/jax.rst"),
                     r"    checkpoint\n\n(.|\n)*    closure_to_pytree\n(.|\n)*"
                     r"currentmodule:: jax\n\nVectorization")

  def test_changelog_without_sections(self):
    (self.tree / "CHANGELOG.md").write_text("## Unreleased\n\n## JAX 1.0\n")
    self.assertRegex(
        self.patched("CHANGELOG.md"),
        r"^## Unreleased\n\n\* New features\n  \* (.|\n)*\n\n\* Changes\n  \* "
        r"(.|\n)*\n\n## JAX 1.0")

  def test_bazel(self):
    build = self.patched("jax/_src/BUILD")
    self.assertIn(
        '        "custom_derivatives.py",\n        "jaxpr_key.py",\n', build)
    self.assertIn('        ":core",\n        ":hashable_array",\n'
                  '        ":literals",\n        "//jax/_src/lib",\n'
                  '    ] + py_deps("numpy"),\n', build)
    self.assertIn('    name = "jaxpr_key_test",\n'
                  '    srcs = ["jaxpr_key_test.py"],\n',
                  self.patched("tests/BUILD"))

  def test_format_patch_without_author(self):
    with jtu.set_env(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1",
                     GIT_CEILING_DIRECTORIES=str(self.tmp)):
      with self.assertRaisesRegex(BaseError, "set user.name and user.email"):
        mail(self.tree, self.changed_files(), "Subject", "Body.")


class RefusalTest(fake_jax_tree.FakeTreeTestCase):

  @parameterized.named_parameters(
      ("definition", "jax/_src/custom_derivatives.py", "def closure_convert",
       "def other", "closure_convert should be there and is not: looked for it"
       " in jax/_src/custom_derivatives.py"),
      ("rule", "jax/experimental/ode.py", "_odeint_rev", "_rev",
       "_odeint_rev should be there and is not: .*jax/experimental/ode.py"),
      ("import", "jax/_src/util.py", "__getattr__", "other",
       "should be there and is not: .*jax/_src/util.py"),
      ("attribute", "jax/_src/interpreters/partial_eval.py", "__getattr__",
       "other", "should be there .*/partial_eval.py"),
      ("removed_test", "tests/custom_api_test.py", "_int_regression", "_other",
       "should be there and is not"),
      ("changelog", "CHANGELOG.md", "Unreleased", "JAX 2", "Unreleased"),
      ("docs", "docs/jax.rst", "closure_convert", "f", "docs/jax.rst"),
      ("bazel", "jax/_src/BUILD", '"custom_derivatives"', '"x"', "target"),
      ("binding", "jax/experimental/ode.py",
       "from jax import custom_derivatives", "import custom_derivatives",
       "has `import custom_derivatives`, and the patch has"),
      ("newer_python", "jax/experimental/ode.py", "import jax\n", "class X[:\n",
       "does not parse. This is Python"))
  def test_not_as_expected(self, path, old, new, message):
    self.replace(path, old, new)
    with self.assertRaisesRegex(BaseError, message):
      self.changed_files()

  @parameterized.parameters("jax/_src/util.py", "CHANGELOG.md",
                            "jax/experimental/ode.py")
  def test_missing_file(self, path):
    (self.tree / path).unlink()
    with self.assertRaisesRegex(BaseError, "missing|should be there"):
      self.changed_files()

  @parameterized.parameters(
      "from jax._src.custom_derivatives import (\n    x,\n    partition_list)",
      "from jax._src import custom_derivatives\n"
      "x = custom_derivatives.partition_list")
  def test_removed_definition_is_used(self, text):
    (self.tree / "jax/_src/user.py").write_text(text)
    with self.assertRaisesRegex(BaseError, "Other files use partition_list"):
      self.changed_files()

  def test_uncommitted_changes(self):
    self.commit_tree()
    self.replace("jax/version.py", "\n", "\n# This is not in the way.\n")
    self.changed_files()
    self.replace("jax/experimental/ode.py", "import jax\n", "import jax  # \n")
    with self.assertRaisesRegex(
        BaseError, "Uncommitted .*\n.*experimental/ode"):
      self.changed_files()

  @parameterized.parameters(
      ("none", "out", "is not a directory"),
      ("tree/tests", "out", "is not a source tree"),
      ("older", "out", r"This is jax 0\.10\.2, .* 0\.11 and later"),
      ("tree", "no/such/out", "cannot be written: No such"))
  def test_nothing_is_written(self, tree, out, message):
    fake_jax_tree.write(self.tmp / "older", {
        **fake_jax_tree.FILES, "jax/version.py": '_version = "0.10.2"\n'})
    with contextlib.redirect_stderr(io.StringIO()) as error:
      code = command.main(["--upstream", str(self.tmp / tree),
                           "-o", str(self.tmp / out)])
    self.assertEqual(code, 2)
    self.assertRegex(error.getvalue(), f"^upstream_diff: .*{message}")
    self.assertFalse((self.tmp / out).exists())

  @parameterized.parameters(
      (["--quick"],), (["--check", "-o", "x"],), (["--check", "--notes"],),
      (["--series"],), (["--series", "x", "-o", "y"],),
      (["--series", "x", "--check"],), (["--series", "x", "--format-patch"],))
  def test_options_that_make_no_sense(self, args):
    with (contextlib.redirect_stderr(io.StringIO()),
          self.assertRaises(SystemExit)):
      command.main(args)


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
      for line in [p.subject, *p.body.splitlines(),
                   *(p.changelog or ("", []))[1]]:
        self.assertLess(len(line), 81)
      self.assertRegex(p.body, r"#\d{4,5}")
      self.assertIn(p.note, command.notes())
      self.assertIn(f"{p.subject}\n\n{p.body}", changes.BODY)


class RunTestsTest(jtu.JaxTestCase):

  def test_each_file_by_itself(self):
    tree = pathlib.Path(self.create_tempdir().full_path).resolve()
    fake_jax_tree.write(tree, {
        "jax/__init__.py": "", "jax/sub.py": "",
        "tests/a_test.py": "import unittest, jax.sub\n"
                           "class A(unittest.TestCase):\n"
                           "  def test_x(self): jax.sub\n"
                           "  def test_x_more(self): assert False\n",
        "tests/b_test.py": "import unittest, jax\n"
                           "class B(unittest.TestCase):\n"
                           "  def test_x(self): jax.sub\n"})
    files = sorted((tree / "tests").glob("*_test.py"))
    run = lambda files, **kwargs: {
        test: outcome.what for test, outcome in run_tests.run(
            "", files, tree, lambda line: None, **kwargs).items()}
    with jtu.set_env(PYTEST_XDIST_AUTO_NUM_WORKERS="1"):
      self.assertEqual(run(files, step=1), {
          "a_test.A.test_x": "passed", "a_test.A.test_x_more": "failed",
          "b_test.B.test_x": "failed"})
      self.assertEqual(run(files[:1], step=0, added=["a_test.A.test_x"]),
                       {"a_test.A.test_x": "passed"})


class SeriesTest(fake_jax_tree.FakeTreeTestCase):

  def setUp(self):
    super().setUp()
    self.commit_tree()

  def write_series(self, name, code=0):
    """Returns the names of the patches, and their texts."""
    self.assertEqual(code, command.main(
        ["--series", str(self.tmp / name), "--upstream", str(self.tree)]))
    return [*fake_jax_tree.read(self.tmp / name).items()]

  def apply(self, file):
    self.git("am", "-q", "--keep-non-patch", str(self.tmp / file))

  def assertTreeIs(self, files):
    self.assertContainsSubset(
        {path: new for path, (_, new) in files.items()}.items(),
        fake_jax_tree.read(self.tree).items())
    self.assertEmpty(self.git("status", "--porcelain"))

  def test_format_patch(self):
    files = self.changed_files()
    command.main(["--format-patch", "--upstream", str(self.tree),
                  "-o", str(self.tmp / "whole.patch")])
    self.apply("whole.patch")
    self.assertTreeIs(files)
    self.assertEqual(self.git("log", "-1", "--format=%an%n%B").strip(),
                     f"A Person\n{changes.SUBJECT}\n\n{changes.BODY}")

  def test_git_am(self):
    whole = self.changed_files()
    patches = self.write_series("all")
    self.assertLen(patches, len(series.PATCHES))
    for number, (p, (file, _)) in enumerate(zip(series.PATCHES, patches), 1):
      self.assertStartsWith(file, f"000{number}-")
      self.apply(f"all/{file}")
      self.assertEqual(self.git("log", "-1", "--format=%B").strip(),
                       f"{p.subject}\n\n{p.body}")
      for source in (self.tree / "jax").rglob("*.py"):
        compile(source.read_text(), str(source), "exec")
      # The others, made on top of those that were merged, are the same.
      if number < len(patches):
        self.assertEqual(self.write_series(f"rest_{number}"), patches[number:])
    self.assertTreeIs(whole)
    with self.assertRaisesRegex(BaseError, "has the patch already"):
      changes.series_files(self.base())

  def test_parts(self):
    files = changes.series_files(self.base()).values()
    for changed in files:
      self.assertRegex(" ".join(changed), r"\bjax/")
    # The examples in the docstring have no test upstream.
    self.assertLen([*filter(check.added_tests, files)], len(files) - 1)

  def test_ends_at_the_mirrors(self):
    self.assertNotEmpty(changes.unlike_mirrors(self.base()))
    patched = self.base().changed(self.changed_files())
    self.assertEmpty(changes.unlike_mirrors(patched))

  def test_merged_with_changes(self):
    # What was changed in review has to be taken over, and not taken back.
    (file, _), *_ = self.write_series("all")
    self.apply(f"all/{file}")
    self.replace("jax/experimental/ode.py", "def _merge(diff, nondiff):\n",
                 "def _merge(diff, nondiff):\n  assert diff\n")
    self.git("commit", "-qam", "change")
    with self.assertRaisesRegex(BaseError, "ode.py has _merge already, "):
      changes.series_files(self.base())

  def test_directory_with_patches(self):
    old = {"0001-old.patch": ""}
    fake_jax_tree.write(self.tmp / "all", old)
    self.assertEqual(self.write_series("all", code=2), [*old.items()])


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
