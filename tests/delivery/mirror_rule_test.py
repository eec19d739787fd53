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

"""Each definition in a mirror replaces the upstream one of its name."""

import inspect
import sys
from unittest import mock

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

import jax_patch
from jax_patch._delivery import patch

from patch_test import CONVERT_HOMES, PatchTestCase

jax.config.parse_flags_with_absl()

FAKE_UPSTREAM = '''
class Rules:
  def __init__(self): self.bwd = "old"
  def defvjp(self, bwd): self.bwd, self.new = bwd, True

def documented():
  """Upstream's words.

  Args:
    x: of upstream.
  """

def untouched(): pass
constant = 1
rules = Rules()
rules.__module__ = __name__
'''

FAKE_MIRROR = '''
from fake_upstream import rules, untouched
import functools

class _New:
  def __init__(self, fun=None): self.fun = fun

@_New
def made_by_a_decorator(): pass

@functools.wraps(print, assigned=())
def documented():
  """Words of its own.

  Args:
    y: of the mirror.
  """
  return "new"

constant = 2
_instance = _New()
_another_name = documented
rules.defvjp("new")
'''

FAKE_NEW = '''
def fresh(): pass
def shown(): pass
def _hidden(): pass
'''


class MirrorRuleTest(PatchTestCase):

  def setUp(self):
    super().setUp()
    directory = self.create_tempdir()
    for name, text in (("upstream", FAKE_UPSTREAM), ("mirror", FAKE_MIRROR),
                       ("new", FAKE_NEW)):
      directory.create_file(f"fake_{name}.py", text)
    for change in (
        mock.patch.object(sys, "path", [directory.full_path, *sys.path]),
        mock.patch.dict(sys.modules),
        mock.patch.dict(patch.UPSTREAM, {"fake_mirror": "fake_upstream"}),
        mock.patch.dict(patch._rules)):
      self.enterContext(change)
    self.addCleanup(jax_patch.revert)
    import fake_upstream
    self.upstream = fake_upstream

  def test_definitions(self):
    upstream = self.upstream
    before = {**vars(upstream)}
    jax_patch.apply()
    import fake_mirror
    changed = {name for name, value in vars(upstream).items()
               if before.get(name) is not value}
    self.assertEqual(changed, {"documented", "_New", "made_by_a_decorator"})
    self.assertIs(upstream._New, fake_mirror._New)
    self.assertIsInstance(upstream.made_by_a_decorator, upstream._New)
    self.assertEqual(upstream.documented(), "new")
    jax_patch.revert()
    self.assertEqual(vars(upstream), before)
    jax_patch.apply()
    self.assertEqual(
        inspect.getdoc(upstream.documented),
        "Upstream's words.\n\nWords of its own.\n\n"
        "Args:\n  x: of upstream.\n  y: of the mirror.")

  def test_rules_of_an_upstream_object(self):
    rules = self.upstream.rules
    jax_patch.status()
    self.assertIn("fake_mirror", sys.modules)
    self.assertEqual(vars(rules).get("bwd"), "old")
    with jax_patch.patched():
      self.assertEqual((rules.bwd, rules.new), ("new", True))
    self.assertEqual(rules.bwd, "old")
    self.assertFalse(hasattr(rules, "new"))

  def test_new_public_names(self):
    import fake_new
    from jax_patch import api
    with (mock.patch.dict(
              patch.UPSTREAM, {"fake_new": "jax._src.custom_derivatives"}),
          mock.patch.object(api, "shown", fake_new.shown, create=True)):
      with jax_patch.patched():
        self.assertEqual(
            [[hasattr(m, name) for m in CONVERT_HOMES]
             for name in ("fresh", "shown", "_hidden")],
            [[False, True, True], [True, True, True], [False, False, True]])
    self.assertStock()


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
