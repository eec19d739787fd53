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

"""Tests of the diff: against the installed JAX, and against a small tree."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

from upstream_diff import __main__ as command
from upstream_diff import imports
from upstream_diff import merge
from upstream_diff import patch
from upstream_diff.base import Base, BaseError
from upstream_diff.diff import apply_to, mail, unified_diff

jax.config.parse_flags_with_absl()


_CUSTOM_DERIVATIVES = '''\
# Copyright

from collections.abc import Callable
from typing import Any

from jax._src import core
from jax._src.api_util import debug_info
from jax._src.tree_util import tree_flatten, tree_map
from jax._src.util import cache, safe_map, safe_zip

map = safe_map
zip = safe_zip

class custom_vjp:
  """Stays   as it is."""

  x = tree_map ; y = 1

### Closures

# What is said here goes with what is replaced.
def closure_convert(fun: Callable, *example_args) -> tuple[Callable, list[Any]]:
  """Old."""
  _, in_tree = tree_flatten(example_args)
  return _closure_convert_for_avals(fun, in_tree, debug_info)

def _maybe_perturbed(x: Any) -> bool:
  return isinstance(x, core.Tracer)

@cache()
def _closure_convert_for_avals(fun, in_tree, debug):
  return fun, split(_maybe_perturbed, in_tree)

def split(choice, lst):
  return [choice(x) for x in lst]


### After

def linear_call(fun):
  return fun
'''

_ODE = '''\
import operator as op
from functools import partial

import jax
import jax.numpy as jnp
from jax._src import core
from jax import custom_derivatives
from jax import lax
from jax._src.util import safe_map, safe_zip
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_leaves, tree_map

map = safe_map
zip = safe_zip


def ravel_first_arg(f, unravel):
  return f

def odeint(func, y0, t, *args, rtol=1., atol=1., mxstep=1, hmax=1):
  """Old."""
  return _odeint_wrapper(func, tree_leaves(args))

@jax.jit
def _odeint_wrapper(func, *args):
  return ravel_first_arg(func, ravel_pytree)

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _odeint(func, *args):
  return lax.scan(func, jnp.ones(2))

def _odeint_fwd(func, *args):
  return _odeint(func), args

def _odeint_rev(func, res, g):
  return tree_map(op.itemgetter(1), res)

_odeint.defvjp(_odeint_fwd, _odeint_rev)
'''

_CUSTOM_API_TEST = '''\
from functools import partial

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import test_util as jtu

config.parse_flags_with_absl()


class CustomJVPTest(jtu.JaxTestCase):

  def test_first(self):
    self.assertTrue(partial(np.ones, jnp.ones, lax))

  def test_maybe_perturbed_int_regression(self):
    self.assertEmpty([])  # The integer stays inside.

  def test_last(self):
    pass


class CustomVJPTest(jtu.JaxTestCase):

  def test_closure_convert(self):
    pass

  @parameterized.parameters(1)
  def test_last(self, x):
    pass


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
'''

_ODE_TEST = '''\
from functools import partial

from absl.testing import absltest
import numpy as np

import jax
from jax._src import test_util as jtu
import jax.numpy as jnp
from jax.experimental.ode import odeint

import scipy.integrate as osp_integrate

jax.config.parse_flags_with_absl()


class ODETest(jtu.JaxTestCase):

  def test_decay(self):
    self.assertTrue(partial(odeint, np, jnp, osp_integrate))


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
'''

_BUILD = '''\
pytype_strict_library(
    name = "core",
    srcs = ["core.py"],
)

pytype_strict_library(
    name = "custom_derivatives",
    srcs = ["custom_derivatives.py"],
    deps = [
        ":core",
    ],
)

pytype_strict_library(
    name = "structures",
    srcs = [
        "literals.py",
        "tree_util.py",
    ],
    deps = [":core"],
)
'''

_TESTS_BUILD = '''\
jax_multiplatform_test(
    name = "custom_api_test",
    srcs = ["custom_api_test.py"],
    deps = py_deps(["numpy"]),
)

jax_multiplatform_test(
    name = "ode_test",
    srcs = ["ode_test.py"],
)
'''

_CHANGELOG = '''\
# Change log

## Unreleased

* Changes
  * Something else.

* Bug fixes
  * Another.

## JAX 1.0
'''

_DOCS = '''\
.. currentmodule:: jax

Automatic differentiation
-------------------------

.. autosummary::
  :toctree: _autosummary

    grad
    closure_convert
    checkpoint

Vectorization
-------------
'''


def _small_tree(root):
  """Writes a source tree with little more than what the patch looks at."""
  files = {
      "jax/__init__.py": "from jax.custom_derivatives import (\n"
                         "  closure_convert as closure_convert)\n",
      "jax/version.py": '_version = "0.0.1"\n',
      "jax/custom_derivatives.py": "from jax._src.custom_derivatives import (\n"
                                   "  closure_convert as closure_convert,\n"
                                   "  linear_call as linear_call,\n)\n"
                                   "SymbolicZero = 0\n",
      "jax/_src/custom_derivatives.py": _CUSTOM_DERIVATIVES,
      "jax/experimental/ode.py": _ODE,
      "jax/_src/BUILD": _BUILD,
      "tests/custom_api_test.py": _CUSTOM_API_TEST,
      "tests/ode_test.py": _ODE_TEST,
      "tests/BUILD": _TESTS_BUILD,
      "CHANGELOG.md": _CHANGELOG,
      "docs/jax.rst": _DOCS,
  }
  # What the patch imports from elsewhere.
  needed = {}
  for f in [*patch._MIRROR.glob("*.py"), *patch._MIRROR.glob("*/*.py")]:
    if f.name[0] == "_" or f.name == "api.py":
      continue
    for i in imports.imports_of(f.read_text()).values():
      if i.module and i.module.partition(".")[0] == "jax":
        needed.setdefault(i.module, set()).add(i.attr)
  for module, names in needed.items():
    path = f"{module.replace('.', '/')}.py"
    if module not in ("jax", "jax._src") and path not in files:
      files[path] = "".join(f"{name} = 0\n" for name in sorted(names))
  for name in needed["jax._src"]:
    files.setdefault(f"jax/_src/{name}.py", "")
  files |= {"jax/_src/__init__.py": "", "jax/lax.py": ""}
  for path, text in files.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
  return files


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
        cwd=patch._MIRROR.parent, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class InstalledTest(_TreeTestCase):

  def test_writes_the_package_alone(self):
    files = patch.changed_files(Base.find(None))
    self.assertContainsSubset(
        ["jax/_src/custom_derivatives.py", "jax/custom_derivatives.py",
         "jax/experimental/ode.py", "jax/_src/const_free.py"], files)
    for path, (_, text) in files.items():
      self.assertStartsWith(path, "jax/")
      compile(text, path, "exec")
      self.assertNotRegex(text, "jax_patch|apply_patch")

  def test_applies_and_reverses(self):
    base = Base.find(None)
    files = patch.changed_files(base)
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
    code = ("import sys; from upstream_diff import patch, base; "
            "patch.changed_files(base.Base.find(None)); "
            "print('jax' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], check=True, text=True,
                         cwd=patch._MIRROR.parent, capture_output=True)
    self.assertEqual(out.stdout, "False\n")

  def test_notes(self):
    code, text, _ = self.run_command("--notes")
    self.assertEqual(code, 0)
    for thread in ("5222", "14760", "6415", "21116"):
      self.assertIn(thread, text)


class SmallTreeTest(_TreeTestCase):

  def setUp(self):
    super().setUp()
    self.files = _small_tree(self.tmp)
    self.base = Base.find(str(self.tmp))

  def patched(self, path):
    return patch.changed_files(self.base)[path][1]

  def test_replaces_in_place(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    ours = (patch._MIRROR / "custom_derivatives.py").read_text()
    body = ours[ours.index("def closure_convert("):]
    # The definition, with what is new after it, where the old one was.
    self.assertIn("# What is said here goes with what is replaced.\n"
                  + body[:body.index('  """Makes')], new)
    self.assertLess(new.index("### Closures"), new.index("def closure_convert"))
    self.assertLess(new.index("class _ConvertedFunction"),
                    new.index("def _maybe_perturbed"))
    self.assertNotIn("Old.", new)

  def test_leaves_the_rest_alone(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    old = self.files["jax/_src/custom_derivatives.py"]
    for kept in (old[old.index("class custom_vjp"):old.index("### Closures")],
                 old[old.index("\n\n### After"):],
                 "def _maybe_perturbed(x: Any) -> bool:\n"
                 "  return isinstance(x, core.Tracer)\n"):
      self.assertIn(kept, new)

  def test_removes_what_nothing_uses_any_more(self):
    new = self.patched("jax/_src/custom_derivatives.py")
    self.assertNotIn("_closure_convert_for_avals", new)
    self.assertNotIn("def split(", new)
    header = new.partition("\nmap = ")[0]
    self.assertNotRegex(header, r"\b(cache|debug_info|tree_flatten)\b")
    self.assertIn("from jax._src.tree_util import tree_map,", header)
    ode = self.patched("jax/experimental/ode.py")
    self.assertNotIn("ravel_first_arg", ode)
    self.assertNotIn("import operator", ode)

  def test_keeps_what_other_files_use(self):
    user = self.tmp / "jax/_src/user.py"
    user.write_text("from jax._src.custom_derivatives import split\n"
                    "from jax._src import custom_derivatives as cd\n"
                    "from jax._src import custom_derivatives\n"
                    "x = custom_derivatives.debug_info\n")
    new = self.patched("jax/_src/custom_derivatives.py")
    self.assertIn("def split(choice, lst):\n", new)
    self.assertIn("from jax._src.api_util import debug_info\n", new)

  def test_imports_are_upstream_s(self):
    header = self.patched("jax/_src/custom_derivatives.py").partition(
        "\nmap = ")[0]
    self.assertIn("from jax._src import config\nfrom jax._src import core\n",
                  header)
    self.assertIn("\nfrom jax._src import structural_key\n"
                  "from jax._src.const_free import (\n", header)
    ode = self.patched("jax/experimental/ode.py")
    self.assertIn("from jax import custom_derivatives\nfrom jax import lax\n",
                  ode)
    self.assertNotIn("from jax.experimental.ode", ode)

  def test_rules_are_replaced(self):
    ode = self.patched("jax/experimental/ode.py")
    self.assertEndsWith(
        ode, "\n_odeint.defvjp(_odeint_fwd, _odeint_rev, symbolic_zeros=True)\n")
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
        ["CustomJVPTest", "CustomVJPTest"])
    # The superseded test is replaced where it was.
    self.assertNotIn("stays inside", new)
    self.assertEqual(new.count("def test_maybe_perturbed_int_regression"), 1)
    names = re.findall(r"  def (test_\w+)", new)
    self.assertLess(names.index("test_first"),
                    names.index("test_maybe_perturbed_int_regression"))
    # New ones go beside those of the same function.
    i = names.index("test_closure_convert")
    self.assertStartsWith(names[i + 1], "test_closure_convert_")
    self.assertEqual(names[-1], "test_last")
    self.assertNotIn("jax.config.parse_flags_with_absl", new)
    self.assertEqual(new.count("if __name__"), 1)
    ode = self.patched("tests/ode_test.py")
    self.assertIn("from absl.testing import absltest, parameterized\n", ode)
    self.assertIn("def test_decay(self):\n    self.assertTrue(partial(", ode)

  def test_documents(self):
    changelog = self.patched("CHANGELOG.md")
    self.assertRegex(changelog, r"  \* Something else\.\n  \* .*closure_convert"
                     r"(.|\n)*#5222(.|\n)*\n\n\* Bug fixes\n  \* Another")
    self.assertRegex(self.patched("docs/jax.rst"),
                     r"    checkpoint\n\n(.|\n)*    closure_to_pytree\n(.|\n)*"
                     r"currentmodule:: jax\n\nVectorization")

  def test_changelog_without_such_a_section(self):
    (self.tmp / "CHANGELOG.md").write_text("## Unreleased\n\n## JAX 1.0\n")
    self.assertRegex(self.patched("CHANGELOG.md"),
                     r"^## Unreleased\n\n\* Changes\n  \* (.|\n)*\n\n## JAX 1.0")

  def test_bazel(self):
    build = self.patched("jax/_src/BUILD")
    self.assertIn('        "const_free.py",\n        "custom_derivatives.py",\n',
                  build)
    self.assertIn('        ":core",\n        ":structures",\n', build)
    self.assertIn('    name = "closure_pytree_test",\n'
                  '    srcs = ["closure_pytree_test.py"],\n',
                  self.patched("tests/BUILD"))

  def test_same_bytes(self):
    diffs = {unified_diff(patch.changed_files(Base.find(str(self.tmp))))
             for _ in range(2)}
    self.assertLen(diffs, 1)

  def test_format_patch(self):
    for args in (["init", "-q"], ["config", "user.name", "A Person"],
                 ["config", "user.email", "a@b.c"], ["add", "."],
                 ["commit", "-qm", "base"]):
      _git(self.tmp, *args)
    files = patch.changed_files(self.base)
    here = os.getcwd()
    os.chdir(self.tmp)
    self.addCleanup(os.chdir, here)
    (self.tmp / ".git" / "mail").write_text(mail(files))
    _git(self.tmp, "am", "-q", ".git/mail")
    log = _git(self.tmp, "log", "-1", "--format=%an%n%B")
    self.assertStartsWith(log, "A Person\nHoist every tracer")
    self.assertIn("#5222", log)
    for path, (_, after) in files.items():
      self.assertEqual((self.tmp / path).read_text(), after)
    self.assertEmpty(_git(self.tmp, "status", "--porcelain"))
    with self.assertRaisesRegex(BaseError, "has the patch already"):
      patch.changed_files(self.base)

  def test_format_patch_without_author(self):
    with jtu.set_env(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1",
                     GIT_CEILING_DIRECTORIES=str(self.tmp.parent)):
      here = os.getcwd()
      os.chdir(self.tmp)
      self.addCleanup(os.chdir, here)
      with self.assertRaisesRegex(BaseError, "set user.name and user.email"):
        mail(patch.changed_files(self.base))

  @parameterized.named_parameters(
      ("definition", "jax/_src/custom_derivatives.py", "def closure_convert",
       "def other", "closure_convert should be there and is not: looked for it"
       " in jax/_src/custom_derivatives.py"),
      ("rule", "jax/experimental/ode.py", "_odeint_rev", "_rev",
       "_odeint_rev should be there and is not: .*jax/experimental/ode.py"),
      ("import", "jax/_src/api_util.py", "flatten_fun", "other",
       "flatten_fun should be there and is not: .*jax/_src/api_util.py"),
      ("class", "tests/ode_test.py", "ODETest", "Other", "ODETest should be"),
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
      patch.changed_files(self.base)

  @parameterized.parameters("jax/_src/api_util.py", "CHANGELOG.md",
                            "jax/experimental/ode.py")
  def test_missing_file(self, path):
    (self.tmp / path).unlink()
    with self.assertRaisesRegex(BaseError, "missing|should be there"):
      patch.changed_files(self.base)

  def test_uncommitted_changes(self):
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "base"]):
      _git(self.tmp, *args)
    with (self.tmp / "jax/version.py").open("a") as f:
      f.write("# This is not in the way.\n")
    patch.changed_files(self.base)
    with (self.tmp / "jax/experimental/ode.py").open("a") as f:
      f.write("# This is.\n")
    with self.assertRaisesRegex(BaseError, "Uncommitted .*\n.*experimental/ode"):
      patch.changed_files(self.base)

  def test_newer_python(self):
    (self.tmp / "jax/experimental/ode.py").write_text("class X[: pass\n")
    with self.assertRaisesRegex(BaseError, "does not parse. This is Python"):
      patch.changed_files(self.base)

  def test_nothing_is_written(self):
    out = self.tmp / "out.diff"
    for tree in (self.tmp / "tests", self.tmp / "none", self.tmp / "a_file"):
      (self.tmp / "a_file").touch()
      code, text, error = self.run_command("--upstream", tree, "-o", out)
      self.assertEqual((code, text), (2, ""))
      self.assertRegex(error, "^upstream_diff: .*(no directory|not a source)")
      self.assertFalse(out.exists())

  def test_output_cannot_be_written(self):
    code, text, error = self.run_command(
        "--upstream", self.tmp, "-o", self.tmp / "no" / "such" / "place")
    self.assertEqual((code, text), (2, ""))
    self.assertIn("cannot be written: No such file", error)

  @parameterized.parameters((["--quick"],), (["--check", "-o", "x"],),
                            (["--check", "--notes"],))
  def test_options_that_make_no_sense(self, args):
    with self.assertRaises(SystemExit):
      command.main(args)


class MergeTest(jtu.JaxTestCase):

  def merge(self, base, mirror):
    merged, _ = merge.merge(textwrap.dedent(base), textwrap.dedent(mirror))
    return merged

  def test_with_itself(self):
    for path in pathlib.Path(patch._MIRROR).glob("*.py"):
      text = path.read_text()
      self.assertEqual(merge.merge(text, text), (text, []))

  def test_keeps_docstring_and_comments(self):
    base = """\
        # Why.
        def f(x):
          '''Of upstream.

          More.
          '''
          return 1
        """
    mirror = """\
        def f(x, y):
          return 2
        """
    self.assertEqual(self.merge(base, mirror), textwrap.dedent("""\
        # Why.
        def f(x, y):
          '''Of upstream.

          More.
          '''
          return 2
        """))

  def test_new_before_what_follows_it(self):
    base = "x = 1\n\n\nclass C:\n  pass\n"
    mirror = "# Two.\n\ndef f(): pass\n\ndef g(): pass\n\n\nclass C:\n  pass\n"
    self.assertEqual(
        self.merge(base, mirror),
        "x = 1\n\n\n# Two.\n\ndef f(): pass\n\ndef g(): pass\n\n\n"
        "class C:\n  pass\n")

  def test_formatting_alone_is_no_change(self):
    base = "def f( x ):\n  return   x\n"
    self.assertEqual(self.merge(base, "def f(x):\n  return x\n"), base)

  @parameterized.parameters(
      ("from a import b\n", ("a", "c"), "from a import b, c\n"),
      ("from a import (b,\n               d)\n", ("a", "c"),
       "from a import (b,\n               d, c)\n"),
      ("from a import (\n  b as b,\n  d as d,\n)\n", ("a", "c"),
       "from a import (\n  b as b,\n  c,\n  d as d,\n)\n"),
      (f"from a import {'b' * 70}\n", ("a", "c"),
       f"from a import (\n    {'b' * 70}, c)\n"),
      ("from a import b\nfrom z import y\n", ("m", "n"),
       "from a import b\nfrom m import n\nfrom z import y\n"),
      ("import os\n\nimport zlib_like\n", (None, "re"),
       "import os\nimport re\n\nimport zlib_like\n"),
      ("from __future__ import annotations\n\nimport re\n", (None, "os"),
       "from __future__ import annotations\n\nimport os\nimport re\n"),
  )
  def test_add_import(self, text, new, expected):
    i = imports.Import(new[0], new[1], new[1])
    self.assertEqual(imports.add_imports(text, [i]), expected)

  @parameterized.parameters(
      ("from a import b, c, d\n", "b", "from a import c, d\n"),
      ("from a import b, c, d\n", "d", "from a import b, c\n"),
      ("from a import b, c, d\n", "cd", "from a import b\n"),
      ("from a import b, c, d\n", "bc", "from a import d\n"),
      ("from a import b, c, d\n", "bd", "from a import c\n"),
      ("from a import (\n    b, c,\n    d)\n", "d",
       "from a import (\n    b, c)\n"),
      ("from a import (\n    b, c,\n    d)\n", "c",
       "from a import (\n    b,\n    d)\n"),
      ("from a import (\n  b,\n  c,\n)\n", "b", "from a import (\n  c,\n)\n"),
      ("import b\nimport c\n", "b", "import c\n"),
      ("from a import x as b, c\n", "b", "from a import c\n"),
  )
  def test_remove_import(self, text, names, expected):
    self.assertEqual(imports.remove_imports(text, {*names}), expected)

  def test_global_names(self):
    text = textwrap.dedent("""\
        from __future__ import annotations
        import a, b, c, d, e
        def f(a, x: b.B) -> "c.C":
          d = a
          return lambda: e(d)
        """)
    self.assertContainsSubset({"b", "c", "e"}, merge.global_names(text))
    self.assertNoCommonElements(["a", "d"], merge.global_names(text))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
