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

"""apply and revert rebind names in JAX, and restore them; status tells.

Each definition in a mirror replaces the upstream one of its name.
"""

import concurrent.futures
import csv
import inspect
import pathlib
import re
import sys
import types
from unittest import mock
import warnings

from absl.testing import absltest, parameterized

import jax
import jax.custom_derivatives
import jax.experimental.ode
from jax._src import core
from jax._src import custom_derivatives
from jax._src import hashable_array
from jax._src import source_info_util
from jax._src import test_util as jtu
from jax._src import traceback_util
from jax._src.interpreters import partial_eval as pe

import jax_patch
from jax_patch._delivery import patch

jax.config.parse_flags_with_absl()

ode = jax.experimental.ode

CONVERT_HOMES = (jax, jax.custom_derivatives, custom_derivatives)


def contents():
  # The identity of each attribute of the objects that the patch changes.
  modules = *CONVERT_HOMES, hashable_array, ode, pe
  objects = {m.__name__: m for m in modules}
  objects["jax.experimental.ode._odeint"] = ode._odeint
  objects["jax._src.core.Jaxpr"] = core.Jaxpr
  return {f"{label}.{name}": id(value) for label, obj in objects.items()
          for name, value in vars(obj).items()}


def changed_since(before):
  now = contents()
  return {n for n in now.keys() | before.keys() if now.get(n) != before.get(n)}


def is_patched():
  return all(m.closure_convert.__module__ == "jax_patch.custom_derivatives"
             for m in CONVERT_HOMES)


class PatchTestCase(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    # Other tests of this process may need the patch.
    if jax_patch.status().applied:
      jax_patch.revert()
      self.addCleanup(jax_patch.apply)
    else:
      self.addCleanup(jax_patch.revert)
    self.stock = contents()

  def assertStock(self):
    self.assertEmpty(changed_since(self.stock))
    self.assertFalse(jax_patch.status().applied)


class ApplyTest(PatchTestCase):

  def test_apply_and_revert(self):
    jax_patch.revert()
    self.assertStock()
    jax_patch.apply()
    self.assertTrue(is_patched())
    # Nothing changes that the status does not name.
    changed = changed_since(self.stock)
    homes = jax_patch.status().names.values()
    self.assertEqual(changed, {name for names in homes for name in names})
    # A decorator makes this object, which is not a plain function.
    self.assertIn("jax.experimental.ode._odeint_wrapper", changed)
    patched = contents()
    jax_patch.apply()
    self.assertEmpty(changed_since(patched))
    for _ in range(2):
      jax_patch.revert()
      self.assertStock()
    jax_patch.apply()
    self.assertEmpty(changed_since(patched))

  def test_frames_are_hidden(self):
    jax_patch.apply()
    self.assertFalse(traceback_util.include_filename(patch.__file__))
    self.assertFalse(source_info_util.is_user_filename(patch.__file__))
    self.assertTrue(traceback_util.include_filename(__file__))

  def test_threads(self):
    def work(index):
      for _ in range(20):
        if index % 2:
          with jax_patch.patched():
            assert is_patched()
        else:
          jax_patch.apply()
          jax_patch.revert()

    self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(1e-6)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
      list(pool.map(work, range(6)))  # raises what a thread has raised
    self.assertStock()

  def test_rebound_by_something_else(self):
    stock = jax.closure_convert
    self.addCleanup(setattr, jax, "closure_convert", stock)
    jax_patch.apply()
    ours, other = jax.closure_convert, lambda fun, *example_args: None
    jax.closure_convert = other
    self.assertEqual(
        jax_patch.status().names["jax._src.custom_derivatives.closure_convert"],
        {"jax.closure_convert": "rebound by something else",
         "jax.custom_derivatives.closure_convert": "patched",
         "jax._src.custom_derivatives.closure_convert": "patched"})
    with self.assertWarnsRegex(UserWarning, r"^jax\.closure_convert: some"):
      jax_patch.revert()
    self.assertIs(jax.closure_convert, other)
    # Applied now, the patch would change one home and not the other.
    for left in (other, ours):
      jax.closure_convert = left
      with self.assertRaisesRegex(RuntimeError, r"expected jax\.closure_conv"):
        jax_patch.apply()
    jax.closure_convert = stock
    self.assertStock()

  def test_patched(self):
    @jax_patch.patched()
    def fun():
      with self.assertRaisesRegex(ValueError, "body"), jax_patch.patched():
        raise ValueError("body")
      self.assertTrue(is_patched())
    fun()
    self.assertStock()

  def test_apply_and_revert_inside_of_patched(self):
    with jax_patch.patched():
      jax_patch.apply()
    self.assertTrue(is_patched())
    with jax_patch.patched():
      jax_patch.revert()
      self.assertTrue(is_patched())
    self.assertStock()


FAKE_UPSTREAM = '''
class Rules:
  def __init__(self): self.bwd = "old"
  def defvjp(self, bwd): self.bwd, self.new = bwd, True

def documented():
  """Upstream's words."""

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
  """Words of its own."""
  return "new"

constant = 2
_instance = _New()
_another_name = documented
rules.defvjp("new")
'''


class MirrorTest(PatchTestCase):

  def setUp(self):
    super().setUp()
    directory = self.create_tempdir()
    directory.create_file("fake_upstream.py", FAKE_UPSTREAM)
    directory.create_file("fake_mirror.py", FAKE_MIRROR)
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
    self.assertEqual(inspect.getdoc(upstream.documented),
                     "Upstream's words.\n\nWords of its own.")

  def test_rules_of_an_upstream_object(self):
    rules = self.upstream.rules
    jax_patch.status()
    self.assertIn("fake_mirror", sys.modules)
    self.assertEqual(vars(rules).get("bwd"), "old")
    with jax_patch.patched():
      self.assertEqual((rules.bwd, rules.new), ("new", True))
    self.assertEqual(rules.bwd, "old")
    self.assertFalse(hasattr(rules, "new"))

  def test_new_name_that_jax_exports(self):
    jax_patch.status()  # An older JAX cannot import the mirrors before.
    with (mock.patch("jax_patch.api.closure_to_pytree", None, create=True),
          jax_patch.patched()):
      self.assertIs(jax.closure_to_pytree,
                    jax.custom_derivatives.closure_to_pytree)
    self.assertStock()


class RefusalTest(PatchTestCase):

  def assertRefused(self, *texts):
    before = contents()
    with self.assertRaises(RuntimeError) as caught:
      jax_patch.apply()
    with self.assertRaises(RuntimeError):
      with jax_patch.patched():
        self.fail("entered")
    for text in (*texts, f"jax {jax.__version__}", patch.TESTED_JAX):
      self.assertIn(text, str(caught.exception))
    self.assertEmpty(changed_since(before))
    report = jax_patch.status()
    self.assertFalse(report.applied)
    self.assertEqual(report.refusal, str(caught.exception))
    self.assertIn(report.refusal, str(report))

  @parameterized.named_parameters(
      ("missing", custom_derivatives, "closure_convert", None, "missing"),
      ("missing_in_jax", jax, "closure_convert", None, "missing"),
      ("not_a_function", jax, "closure_convert", print, "built-in"),
      ("other_object", jax, "closure_convert", lambda fun, *example_args: 0,
       "<lambda>"),
      ("other_parameters", custom_derivatives, "closure_convert",
       lambda example_args, *fun: 0, "found example_args, *fun"),
      ("other_odeint", ode, "odeint", lambda func, y0, t, *args, rtol: 0,
       "found func, y0, t, *args, rtol"))
  def test_name_that_is_something_else(self, module, name, value, found):
    with mock.patch.object(module, name, value):
      if value is None:
        delattr(module, name)
      self.assertRefused(f"{module.__name__}.{name}", found)
    self.assertStock()

  @parameterized.parameters("jax.custom_derivatives", "jax_patch.jaxpr_key",
                            "jax_patch.experimental.ode", "jax_patch.api")
  def test_module_that_cannot_be_imported(self, name):
    with mock.patch.dict(sys.modules, {name: None}):
      self.assertRefused(f"expected {name} to import")
    jax_patch.apply()

  def test_error_while_binding(self):
    def set_but_one(module, name, value):
      if name == "odeint":  # one of the last names to be bound
        raise AttributeError("not me")
      vars(module)[name] = value

    ode.__class__ = type(
        "Module", (types.ModuleType,), {"__setattr__": set_but_one})
    try:
      with self.assertRaisesRegex(AttributeError, "not me"):
        jax_patch.apply()
    finally:
      object.__setattr__(ode, "__class__", types.ModuleType)
    self.assertStock()


class VersionTest(PatchTestCase):

  @parameterized.parameters(
      ("0.9.2", RuntimeError), ("0.10.1", RuntimeError), ("0.10.2", None),
      ("0.12.9.dev1+g0", None), ("0.13.0", UserWarning),
      ("0.13.0.dev20260801+abc", UserWarning), ("1.0", UserWarning))
  def test_version(self, version, error):
    with (mock.patch.object(jax, "__version__", version),
          warnings.catch_warnings(action="error")):
      if error:
        with self.assertRaisesRegex(
            error, re.escape(f"jax{patch.TESTED_JAX}, ") +
            f"(but|and) this is jax {version[:6]}"):
          jax_patch.apply()
        self.assertFalse(is_patched())
        warnings.simplefilter("ignore")
      if error is not RuntimeError:
        jax_patch.apply()
        self.assertTrue(is_patched())
      self.assertEqual(jax_patch.status().tested, error is None)
      self.assertEqual(bool(jax_patch.status().refusal), error is RuntimeError)

  def test_tested_range_is_in_the_table(self):
    # nox wrote the table. Its first row is the last JAX without
    # closure_convert, which has a diff and cannot be patched.
    table = pathlib.Path(__file__).parents[2] / "docs" / "versions.csv"
    with table.open(newline="") as f:
      _, oldest, *_, newest = [row["jax"] for row in csv.DictReader(f)]
    next_minor = int(newest.split(".")[1]) + 1
    self.assertEqual(patch.TESTED_JAX, f">={oldest},<0.{next_minor}")


class StatusTest(PatchTestCase):

  def test_report(self):
    stock = jax_patch.status()
    self.assertStock()
    jax_patch.apply()
    report = jax_patch.status()
    for name, modules, before, after in (
        ("closure_convert", CONVERT_HOMES, "stock", "patched"),
        ("closure_to_pytree", CONVERT_HOMES[1:], "absent", "added"),
        ("_closure_convert", CONVERT_HOMES[2:], "absent", "added")):
      homes = [f"{m.__name__}.{name}" for m in modules]
      name = f"jax._src.custom_derivatives.{name}"
      self.assertEqual(stock.names[name], dict.fromkeys(homes, before))
      self.assertEqual(report.names[name], dict.fromkeys(homes, after))
    self.assertEqual(report.names.keys(), stock.names.keys())
    self.assertIn("the patch is not applied, and can be", str(stock))
    for text in ("the patch is applied\n", f"jax {jax.__version__}",
                 "patched  jax.experimental.ode.odeint",
                 "added    jax._src.custom_derivatives._closure_convert"):
      self.assertIn(text, str(report))

  def test_stale_names(self):
    library = types.ModuleType("a_library")
    library.took_before, library.unrelated = jax.closure_convert, True
    self.enterContext(mock.patch.dict(sys.modules, {
        "a_library": library, "not_a_module": object(), "none": None}))
    held = lambda: [n for n in jax_patch.status().stale if "a_lib" in n]
    self.assertEqual(held(), [])
    with warnings.catch_warnings(action="error"):
      with self.assertRaisesRegex(
          UserWarning, "^imported from JAX before .*: a_library.took_before. "):
        jax_patch.apply()
      self.assertStock()
    with warnings.catch_warnings(record=True, action="always") as caught:
      jax_patch.apply()
      jax_patch.apply()  # does not warn again
    self.assertEqual([w.filename for w in caught], [__file__])
    self.assertEqual(held(), ["a_library.took_before"])
    library.took_during = ode.odeint
    self.assertEqual(held(), ["a_library.took_before"])
    jax_patch.revert()
    self.assertEqual(held(), ["a_library.took_during"])
    self.assertIn("  a_library.took_during", str(jax_patch.status()))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
