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

"""Merging the definitions of a mirror file into an upstream file."""

import textwrap

from absl.testing import absltest, parameterized

import jax
from jax._src import test_util as jtu

from upstream_diff import imports
from upstream_diff import merge
from upstream_diff import series

jax.config.parse_flags_with_absl()


class MergeTest(jtu.JaxTestCase):

  def test_docstring_and_comments(self):
    base = ('# Why.\ndef f(x):\n  """Upstream.\n\n  Args:\n    x: one.\n'
            '  """\n  return 1\n')
    mirror = ('def f(x, y):\n  """Added.\n\n  Args:\n    y: another.\n  """\n'
              '  return 2\n')
    merged = ('# Why.\ndef f(x, y):\n  """Upstream.\n\n  Added.\n\n  Args:\n'
              '    x: one.\n    y: another.\n  """\n  return 2\n')
    self.assertEqual(merge.merge(base, mirror), merged)
    self.assertEqual(merge.merge(merged, mirror), merged)
    self.assertEqual(
        merge.merge(base, "def f(x, y):\n  return 2\n"),
        base.replace("(x)", "(x, y)").replace("return 1", "return 2"))

  def test_with_itself(self):
    for path in series.MIRROR.glob("*.py"):
      text = path.read_text()
      self.assertEqual(merge.merge(text, text), text)

  def test_only_what_is_named(self):
    base = "def a(): pass\n\ndef z(): pass\n"
    mirror = ("def a(): x\n\ndef b(): pass\n\ndef c(): pass\n\n"
              "class D:\n\n  def e(self): pass\n\n  # Why.\n"
              "  def f(self): pass\n\n  def g(self): pass\n\n"
              "def z(): x\n")
    once = merge.merge(base, mirror, {"c", "D.f"})
    self.assertEqual(
        once, "def a(): pass\n\ndef c(): pass\n\nclass D:\n\n  # Why.\n"
        "  def f(self): pass\n\ndef z(): pass\n")
    self.assertEqual(
        merge.merge(once, mirror, {"a", "b", "D.e", "D.g", "z"}), mirror)

  def test_new_before_what_follows_it(self):
    base = "x = 1\n\n\nclass C:\n  pass\n"
    mirror = "# Two.\n\ndef f(): pass\n\ndef g(): pass\n\n\nclass C:\n  pass\n"
    self.assertEqual(
        merge.merge(base, mirror),
        "x = 1\n\n\n# Two.\n\ndef f(): pass\n\ndef g(): pass\n\n\n"
        "class C:\n  pass\n")

  def test_edited_expression(self):
    base = ("def f(x):\n  # Why.\n  return x + 1\n\n"
            "def g( x ):\n  return x + 1\n")
    mirror = ("def g(x):\n  return x + 1\n\n"  # formatting alone is no change
              "f.fun = edited(f, \"x + 1\", \"x + 2\").fun\nf.defvjp(1, 2)\n")
    merged = merge.merge(base, mirror)
    self.assertEqual(merged, base.replace("x + 1", "x + 2", 1))

  def test_remove(self):
    text = "x = 1\n\n# Why.\ndef f(): pass\n\n\nclass C:\n  y = 2\n  z = 3\n"
    self.assertEqual(merge.remove(text, "f"),
                     "x = 1\n\n\nclass C:\n  y = 2\n  z = 3\n")
    self.assertEqual(merge.remove(text, "C.z"), text.removesuffix("  z = 3\n"))
    self.assertIsNone(merge.remove(text, "C.f"))

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
      ("from a import b, c, d\n", "cd", "from a import b\n"),
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
