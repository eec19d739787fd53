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

"""The diff against the installed JAX, and against a small source tree."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

import fake_jax_tree
from upstream_diff import __main__ as command
from upstream_diff import changes
from upstream_diff import run_tests
from upstream_diff import series
from upstream_diff.base import Base, BaseError
from upstream_diff.diff import apply_to, mail, unified_diff

jax.config.parse_flags_with_absl()


def _git(root, *args):
  identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER")
              for what in ("NAME", "EMAIL")}
  return subprocess.run(["git", *args], cwd=root, check=True, text=True,
                        capture_output=True, env={**os.environ, **identity}
                        ).stdout


class _TreeTestCase(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    tmp = tempfile.TemporaryDirectory()
    self.addCleanup(tmp.cleanup)
    self.tmp = pathlib.Path(tmp.name)

  def run_command(self, *args):
    """Returns the exit code, what was written, and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "upstream_diff", *map(str, args)],
        cwd=run_tests.PROJECT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class OlderTest(_TreeTestCase):

  def test_is_refused(self):
    fake_jax_tree.write(self.tmp)
    (self.tmp / "jax/version.py").write_text('_version = "0.10.2"\n')
    out = self.tmp / "out"
    for args in (["-o", out], ["--series", out]):
      code, text, error = self.run_command("--upstream", self.tmp, *args)
      self.assertEqual((code, text), (2, ""))
      self.assertRegex(error, r"This is jax 0\.10\.2, .* 0\.11 and later")
      self.assertFalse(out.exists())


@unittest.skipIf(jax.version._version_as_tuple(jax.__version__) < (0, 11),
                 "The diff is made for later versions.")
class InstalledTest(_TreeTestCase):

  def test_writes_the_package_alone(self):
    files = changes.changed_files(Base.find(None))
    self.assertContainsSubset(
        ["jax/_src/custom_derivatives.py", "jax/custom_derivatives.py",
         "jax/experimental/ode.py", "jax/_src/jaxpr_key.py"], files)
    for path, (_, text) in files.items():
      self.assertStartsWith(path, "jax/")
      compile(text, path, "exec")
      self.assertNotRegex(text, "jax_patch")

  def test_applies_and_reverses(self):
    base = Base.find(None)
    files = changes.changed_files(base)
    for path, (before, _) in files.items():
      if before is not None:
        (self.tmp / path).parent.mkdir(parents=True, exist_ok=True)
        (self.tmp / path).write_text(before)
    diff = unified_diff(files)
    apply_to(self.tmp, diff)
    for path, (_, after) in files.items():
      self.assertEqual((self.tmp / path).read_text(), after)
    apply_to(self.tmp, diff, "--reverse")
    for path, (before, _) in files.items():
      self.assertEqual((self.tmp / path).exists(), before is not None)
      if before is not None:
        self.assertEqual((self.tmp / path).read_text(), before)

  def test_command(self):
    out = self.tmp / "a.diff"
    self.assertEqual(self.run_command("-o", out), (0, "", ""))
    code, text, _ = self.run_command()
    self.assertEqual(code, 0)
    self.assertEqual(text, out.read_text())
    self.assertIn("\n+++ b/jax/_src/custom_derivatives.py\n", text)

  def test_does_not_import_jax(self):
    code = ("import sys; from upstream_diff import changes, base; "
            "changes.changed_files(base.Base.find(None)); "
            "print('jax' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], check=True, text=True,
                         cwd=run_tests.PROJECT, capture_output=True)
    self.assertEqual(out.stdout, "False\n")

  def test_notes(self):
    code, text, _ = self.run_command("--notes")
    self.assertEqual(code, 0)
    for thread in ("14760", "6415", "21116", "6867", "5244"):
      self.assertIn(thread, text)


class SmallTreeTest(_TreeTestCase):

  def setUp(self):
    super().setUp()
    self.files = fake_jax_tree.write(self.tmp)
    self.base = Base.find(str(self.tmp))

  def patched(self, path):
    return changes.changed_files(self.base)[path][1]

  def test_replaces_in_place(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    # The definition, with what is new after it, where the old one was. The
    # docstring is upstream's, with what the mirror adds.
    self.assertIn("# What is said here goes with what is replaced.\n"
                  "def closure_convert(", new)
    self.assertIn('  """Old.\n\n  For example, ', new)
    self.assertLess(new.index("### Closures"), new.index("def closure_convert"))
    self.assertLess(new.index("def closure_to_pytree"), new.index("### After"))

  def test_leaves_the_rest_alone(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    old = self.files["jax/_src/custom_derivatives.py"]
    for kept in (old[old.index("class custom_vjp"):old.index("### Closures")],
                 old[old.index("\n\n### After"):]):
      self.assertIn(kept, new)

  def test_removes(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    self.assertNotIn("def partition_list(", new)
    self.assertNotIn("_maybe_perturbed", new)
    # And the imports that are needed no more.
    test = self.patched("tests/custom_api_test.py")
    self.assertNotIn("from jax._src import custom_derivatives", test)
    header = new.partition("\nmap = ")[0]
    self.assertNotRegex(header, r"\b_?cache\b")

  def test_keeps_imports_that_other_files_use(self):
    (self.tmp / "jax/_src/user.py").write_text(
        "from jax._src import custom_derivatives\n"
        "x = custom_derivatives.cache\n")
    self.assertRegex(self.patched("jax/_src/custom_derivatives.py"),
                     r"from jax._src.util import \(?\s*cache, ")

  def test_imports_are_upstream_s(self):
    header = self.patched("jax/_src/custom_derivatives.py").partition(
        "\nmap = ")[0]
    self.assertIn("\n\nimport numpy as np\n\nfrom jax._src import ", header)
    self.assertIn("from jax._src.jaxpr_key import FrozenArray, jaxpr_key", header)
    ode = self.patched("jax/experimental/ode.py")
    self.assertIn("from jax import custom_derivatives\nfrom jax import lax\n",
                  ode)
    self.assertNotIn("from jax.experimental.ode", ode)

  def test_rules_are_replaced(self):
    ode = self.patched("jax/experimental/ode.py")
    self.assertEndsWith(ode, "\n_odeint.defvjp(_odeint_fwd, _odeint_rev, "
                        "symbolic_zeros=True)\n")
    self.assertEqual(ode.count("defvjp"), 1)

  def test_exports(self):
    self.assertIn("  closure_convert as closure_convert,\n"
                  "  closure_to_pytree as closure_to_pytree,\n"
                  "  linear_call as linear_call,\n",
                  self.patched("jax/custom_derivatives.py"))

  def test_merges_tests(self):
    new = self.patched("tests/custom_api_test.py")
    self.assertEqual(
        re.findall(r"^class (\w+)\(jtu", new, re.MULTILINE),
        ["CustomJVPTest", "CustomVJPTest", "ClosureConvertTest"])
    # What pinned the old behaviour goes.
    self.assertNotIn("maybe_perturbed", new)
    self.assertNotIn("jax.config.parse_flags_with_absl", new)
    self.assertEqual(new.count("if __name__"), 1)
    ode = self.patched("tests/ode_test.py")
    self.assertIn("from absl.testing import absltest, parameterized\n", ode)
    self.assertIn("def test_decay(self):\n    self.assertTrue(partial(", ode)

  def test_documents(self):
    changelog = self.patched("CHANGELOG.md")
    self.assertRegex(
        changelog, r"## Unreleased\n\n\* New features\n  \* .*closure_to_pytree"
        r"(.|\n)*\n\n\* Changes\n  \* Something else\.\n  \* .*odeint"
        r"(.|\n)*#5222(.|\n)*\n\n\* Bug fixes\n  \* Another")
    self.assertRegex(self.patched("docs/jax.rst"),
                     r"    checkpoint\n\n(.|\n)*    closure_to_pytree\n(.|\n)*"
                     r"currentmodule:: jax\n\nVectorization")

  def test_changelog_without_such_a_section(self):
    (self.tmp / "CHANGELOG.md").write_text("## Unreleased\n\n## JAX 1.0\n")
    self.assertRegex(
        self.patched("CHANGELOG.md"),
        r"^## Unreleased\n\n\* New features\n  \* (.|\n)*\n\n\* Changes\n  \* "
        r"(.|\n)*\n\n## JAX 1.0")

  def test_bazel(self):
    build = self.patched("jax/_src/BUILD")
    self.assertIn(
        '        "custom_derivatives.py",\n        "jaxpr_key.py",\n', build)
    self.assertIn('        ":core",\n        ":literals",\n        '
                  '"//jax/_src/lib",\n    ] + py_deps("numpy"),\n', build)
    self.assertIn('    name = "jaxpr_key_test",\n'
                  '    srcs = ["jaxpr_key_test.py"],\n',
                  self.patched("tests/BUILD"))

  def test_same_bytes(self):
    diffs = {unified_diff(changes.changed_files(Base.find(str(self.tmp))))
             for _ in range(2)}
    self.assertLen(diffs, 1)

  def test_format_patch(self):
    for args in (["init", "-q"], ["config", "user.name", "A Person"],
                 ["config", "user.email", "a@b.c"], ["add", "."],
                 ["commit", "-qm", "base"]):
      _git(self.tmp, *args)
    files = changes.changed_files(self.base)
    (self.tmp / ".git" / "mail").write_text(
        mail(self.tmp, files, changes.SUBJECT, changes.BODY))
    _git(self.tmp, "am", "-q", ".git/mail")
    log = _git(self.tmp, "log", "-1", "--format=%an%n%B")
    self.assertStartsWith(log, "A Person\nComplete jax.closure_convert")
    for p in series.PATCHES:
      self.assertIn(f"\n\n{p.subject}\n\n", log)
    for path, (_, after) in files.items():
      self.assertEqual((self.tmp / path).read_text(), after)
    self.assertEmpty(_git(self.tmp, "status", "--porcelain"))
    with self.assertRaisesRegex(BaseError, "has the patch already"):
      changes.changed_files(self.base)

  def test_format_patch_without_author(self):
    with jtu.set_env(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1",
                     GIT_CEILING_DIRECTORIES=str(self.tmp.parent)):
      with self.assertRaisesRegex(BaseError, "set user.name and user.email"):
        mail(self.tmp, changes.changed_files(self.base), "Subject", "Body.")

  @parameterized.named_parameters(
      ("definition", "jax/_src/custom_derivatives.py", "def closure_convert",
       "def other", "closure_convert should be there and is not: looked for it"
       " in jax/_src/custom_derivatives.py"),
      ("rule", "jax/experimental/ode.py", "_odeint_rev", "_rev",
       "_odeint_rev should be there and is not: .*jax/experimental/ode.py"),
      ("import", "jax/_src/util.py", "merge_lists", "other",
       "merge_lists should be there and is not: .*jax/_src/util.py"),
      ("attribute", "jax/_src/interpreters/partial_eval.py",
       "trace_to_jaxpr_nocache", "other",
       "trace_to_jaxpr_nocache should be there .*/partial_eval.py"),
      ("changelog", "CHANGELOG.md", "Unreleased", "JAX 2", "Unreleased"),
      ("docs", "docs/jax.rst", "closure_convert", "f", "docs/jax.rst"),
      ("bazel", "jax/_src/BUILD", '"custom_derivatives"', '"x"', "target"),
      ("binding", "jax/experimental/ode.py",
       "from jax import custom_derivatives", "import custom_derivatives",
       "has `import custom_derivatives`, and the patch has"),
  )
  def test_not_as_expected(self, path, old, new, message):
    text = (self.tmp / path).read_text()
    self.assertIn(old, text)
    (self.tmp / path).write_text(text.replace(old, new))
    with self.assertRaisesRegex(BaseError, message):
      changes.changed_files(self.base)

  @parameterized.parameters("jax/_src/util.py", "CHANGELOG.md",
                            "jax/experimental/ode.py")
  def test_missing_file(self, path):
    (self.tmp / path).unlink()
    with self.assertRaisesRegex(BaseError, "missing|should be there"):
      changes.changed_files(self.base)

  def test_uncommitted_changes(self):
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "base"]):
      _git(self.tmp, *args)
    with (self.tmp / "jax/version.py").open("a") as f:
      f.write("# This is not in the way.\n")
    changes.changed_files(self.base)
    with (self.tmp / "jax/experimental/ode.py").open("a") as f:
      f.write("# This is.\n")
    with self.assertRaisesRegex(
        BaseError, "Uncommitted .*\n.*experimental/ode"):
      changes.changed_files(self.base)

  def test_newer_python(self):
    (self.tmp / "jax/experimental/ode.py").write_text("class X[: pass\n")
    with self.assertRaisesRegex(BaseError, "does not parse. This is Python"):
      changes.changed_files(self.base)

  def test_nothing_is_written(self):
    out = self.tmp / "out.diff"
    for tree in (self.tmp / "tests", self.tmp / "none", self.tmp / "a_file"):
      (self.tmp / "a_file").touch()
      code, text, error = self.run_command("--upstream", tree, "-o", out)
      self.assertEqual((code, text), (2, ""))
      self.assertRegex(error, "^upstream_diff: .*(is not a directory|not a source)")
      self.assertFalse(out.exists())

  def test_output_cannot_be_written(self):
    code, text, error = self.run_command(
        "--upstream", self.tmp, "-o", self.tmp / "no" / "such" / "place")
    self.assertEqual((code, text), (2, ""))
    self.assertIn("cannot be written: No such file", error)

  @parameterized.parameters(
      (["--quick"],), (["--check", "-o", "x"],), (["--check", "--notes"],),
      (["--series"],), (["--series", "x", "-o", "y"],),
      (["--series", "x", "--check"],), (["--series", "x", "--format-patch"],))
  def test_options_that_make_no_sense(self, args):
    with self.assertRaises(SystemExit):
      command.main(args)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
