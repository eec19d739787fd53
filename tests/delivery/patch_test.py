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

"""apply and revert rebind names in JAX, and restore them; status tells."""

import csv
import pathlib
import sys
import threading
import types
from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized

import jax
import jax.custom_derivatives
import jax.experimental.ode
from jax._src import custom_derivatives
from jax._src import core
from jax._src import test_util as jtu
from jax._src.interpreters import partial_eval as pe

import jax_patch
from jax_patch._delivery import patch

jax.config.parse_flags_with_absl()

ode = jax.experimental.ode

CONVERT_HOMES = (jax, jax.custom_derivatives, custom_derivatives)


def contents():
  # The identity of each attribute of the objects that the patch changes.
  objects = {m.__name__: m for m in (*CONVERT_HOMES, ode)}
  objects["jax.experimental.ode._odeint"] = ode._odeint
  objects["jax._src.interpreters.partial_eval"] = pe  # on an older JAX
  objects["jax._src.core.Jaxpr"] = core.Jaxpr
  return {f"{label}.{name}": id(value) for label, obj in objects.items()
          for name, value in vars(obj).items()}


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
    self.assertFalse(jax_patch.status().applied)
    self.stock = contents()

  def assertStock(self):
    self.assertEqual(contents(), self.stock)


class ApplyTest(PatchTestCase):

  def test_every_home_is_patched(self):
    stock_convert, stock_odeint = jax.closure_convert, ode.odeint
    jax_patch.apply()
    from jax_patch.custom_derivatives import closure_convert
    from jax_patch.experimental.ode import odeint
    self.assertIsNot(closure_convert, stock_convert)
    self.assertIsNot(odeint, stock_odeint)
    for module in CONVERT_HOMES:
      self.assertIs(module.closure_convert, closure_convert)
    self.assertIs(ode.odeint, odeint)

  def test_nothing_else_changes(self):
    jax_patch.apply()
    now = contents()
    changed = {name for name in now.keys() | self.stock.keys()
               if now.get(name) != self.stock.get(name)}
    report = jax_patch.status()
    self.assertEqual(
        changed, {home for homes in report.names.values() for home in homes})
    # A decorator makes this object, which is not a plain function.
    self.assertIn("jax.experimental.ode._odeint_wrapper", changed)
    self.assertNotIn("jax.experimental.ode.ravel_first_arg", changed)

  def test_revert_restores_the_exact_originals(self):
    jax_patch.apply()
    self.assertNotEqual(contents(), self.stock)
    jax_patch.revert()
    self.assertStock()

  def test_idempotent(self):
    jax_patch.revert()
    self.assertStock()
    jax_patch.apply()
    once = contents()
    jax_patch.apply()
    self.assertEqual(contents(), once)
    jax_patch.revert()
    self.assertStock()
    jax_patch.revert()
    self.assertStock()
    jax_patch.apply()
    self.assertEqual(contents(), once)

  def test_only_the_four_names_are_public(self):
    self.assertEqual(
        jax_patch.__all__, ["apply", "patched", "revert", "status"])

  def test_frames_are_hidden(self):
    jax_patch.apply()
    from jax._src import source_info_util
    from jax._src import traceback_util
    self.assertFalse(traceback_util.include_filename(patch.__file__))
    self.assertFalse(source_info_util.is_user_filename(patch.__file__))
    self.assertTrue(traceback_util.include_filename(__file__))

  def test_threads(self):
    failures = []
    start = threading.Barrier(6)

    def work(index):
      try:
        start.wait()
        for _ in range(20):
          if index % 2:
            with jax_patch.patched():
              if not is_patched():
                failures.append("not patched inside of patched()")
          else:
            jax_patch.apply()
            jax_patch.revert()
      except BaseException as e:
        failures.append(e)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
      threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
    finally:
      sys.setswitchinterval(interval)
    self.assertEmpty(failures)
    self.assertStock()

  def test_rebound_by_something_else(self):
    stock = jax.closure_convert
    jax_patch.apply()
    ours, other = jax.closure_convert, lambda fun, *example_args: None
    self.addCleanup(setattr, jax, "closure_convert", stock)
    jax.closure_convert = other
    self.assertEqual(
        jax_patch.status().names["jax._src.custom_derivatives.closure_convert"],
        {"jax.closure_convert": "rebound by something else",
         "jax.custom_derivatives.closure_convert": "patched",
         "jax._src.custom_derivatives.closure_convert": "patched"})
    with self.assertWarnsRegex(UserWarning, r"^jax\.closure_convert: some"):
      jax_patch.revert()
    self.assertIs(jax.closure_convert, other)
    self.assertFalse(jax_patch.status().applied)
    # Applied now, the patch would change one home and not the other.
    for left in (other, ours):
      jax.closure_convert = left
      with self.assertRaisesRegex(
          RuntimeError, r"expected jax\.closure_convert to be <function .* of "
          rf"jax\._src\..*, but found <function .* of {left.__module__}\."):
        jax_patch.apply()
    jax.closure_convert = stock
    self.assertStock()


class PatchedTest(PatchTestCase):

  def test_nested(self):
    with jax_patch.patched():
      self.assertTrue(is_patched())
      with jax_patch.patched():
        self.assertTrue(is_patched())
      self.assertTrue(is_patched())
    self.assertStock()

  def test_after_apply(self):
    jax_patch.apply()
    with jax_patch.patched():
      self.assertTrue(is_patched())
    self.assertTrue(is_patched())
    jax_patch.revert()
    self.assertStock()

  def test_apply_inside_stays_in_force(self):
    with jax_patch.patched():
      jax_patch.apply()
    self.assertTrue(is_patched())
    jax_patch.revert()
    self.assertStock()

  def test_revert_inside_waits_for_the_end(self):
    jax_patch.apply()
    with jax_patch.patched():
      jax_patch.revert()
      self.assertTrue(is_patched())
    self.assertStock()

  def test_exception(self):
    with self.assertRaisesRegex(ValueError, "body"):
      with jax_patch.patched():
        raise ValueError("body")
    self.assertStock()

  def test_decorator(self):
    @jax_patch.patched()
    def fun(depth):
      self.assertTrue(is_patched())
      return fun(depth - 1) if depth else "done"

    for _ in range(2):
      self.assertEqual(fun(2), "done")
      self.assertStock()


def a_function(example_args, *fun):
  del example_args, fun


class RefusalTest(PatchTestCase):

  def assertRefused(self, *texts):
    before = contents()
    with self.assertRaises(RuntimeError) as caught:
      jax_patch.apply()
    for text in (*texts, f"jax {jax.__version__}", patch.TESTED_JAX):
      self.assertIn(text, str(caught.exception))
    with self.assertRaises(RuntimeError):
      with jax_patch.patched():
        self.fail("entered")
    self.assertEqual(contents(), before)
    report = jax_patch.status()
    self.assertFalse(report.applied)
    self.assertEqual(report.refusal, str(caught.exception))
    self.assertIn(report.refusal, str(report))

  @parameterized.parameters("jax", "jax.custom_derivatives",
                            "jax._src.custom_derivatives")
  def test_name_that_jax_lacks(self, home):
    module = sys.modules[home]
    original = module.closure_convert
    del module.closure_convert
    try:
      self.assertRefused(f"{home}.closure_convert", "missing")
    finally:
      module.closure_convert = original

  @parameterized.named_parameters(
      ("not_a_function", jax, "closure_convert", print, "built-in"),
      ("other_parameters", custom_derivatives, "closure_convert", a_function,
       "found example_args, *fun"),
      ("other_object", jax, "closure_convert", lambda fun, *example_args: 0,
       "<lambda>"),
      ("other_odeint", ode, "odeint", lambda func, y0, t, *args, rtol: 0,
       "found func, y0, t, *args, rtol."),
      ("odeint_is_a_class", ode, "odeint", PatchTestCase, "PatchTestCase"))
  def test_name_that_is_something_else(self, module, name, value, found):
    with mock.patch.object(module, name, value):
      self.assertRefused(f"{module.__name__}.{name}", found)
    self.assertStock()

  @parameterized.parameters("jax.experimental.ode", "jax.custom_derivatives",
                            "jax_patch.experimental.ode", "jax_patch.jaxpr_key",
                            "jax_patch.api")
  def test_module_that_cannot_be_imported(self, name):
    with mock.patch.dict(sys.modules, {name: None}):
      self.assertRefused(f"expected {name} to import")
    jax_patch.apply()

  def test_error_while_binding(self):
    class Stubborn(types.ModuleType):

      def __setattr__(self, name, value):
        if name == "odeint":
          raise AttributeError("not me")
        super().__setattr__(name, value)

    # `odeint` is one of the last names to be bound.
    ode.__class__ = Stubborn
    try:
      with self.assertRaisesRegex(AttributeError, "not me"):
        jax_patch.apply()
      self.assertStock()
      self.assertFalse(jax_patch.status().applied)
    finally:
      ode.__class__ = types.ModuleType
    jax_patch.apply()
    self.assertTrue(is_patched())


class VersionTest(PatchTestCase):

  @parameterized.parameters("0.4.30", "0.9.2", "0.10.1")
  def test_version_that_is_too_old(self, version):
    with mock.patch.object(jax, "__version__", version):
      with self.assertRaisesRegex(
          RuntimeError, f"^jax_patch needs jax{patch.TESTED_JAX}, and this is "
          f"jax {version}"):
        jax_patch.apply()
      self.assertStartsWith(jax_patch.status().refusal, "jax_patch needs jax")
    self.assertStock()

  @parameterized.parameters("0.13.0", "0.13.0.dev20260801+abc", "1.0")
  def test_untested_version_warns(self, version):
    with mock.patch.object(jax, "__version__", version):
      with self.assertWarnsRegex(UserWarning, f"but this is jax {version[:4]}"):
        jax_patch.apply()
      self.assertTrue(is_patched())
      self.assertFalse(jax_patch.status().tested)
      jax_patch.apply()  # The second call does not warn.

  @parameterized.parameters("0.10.2", "0.11.0", "0.12.0.1", "0.12.9.dev1+g0")
  def test_tested_version_does_not_warn(self, version):
    with mock.patch.object(jax, "__version__", version):
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax_patch.apply()
      self.assertTrue(jax_patch.status().tested)

  def test_tested_range_is_in_the_table(self):
    # nox wrote the table. Its first row is the last JAX without
    # closure_convert, which has a diff and cannot be patched.
    table = pathlib.Path(__file__).parents[2] / "docs" / "versions.csv"
    with table.open(newline="") as f:
      _, oldest, *_, newest = [row["jax"] for row in csv.DictReader(f)]
    next_minor = int(newest.split(".")[1]) + 1
    self.assertEqual(patch.TESTED_JAX, f">={oldest},<0.{next_minor}")

  def test_warning_that_is_an_error_changes_nothing(self):
    with mock.patch.object(jax, "__version__", "0.13.0"):
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        with self.assertRaises(UserWarning):
          jax_patch.apply()
    self.assertStock()


class StatusTest(PatchTestCase):

  def test_report(self):
    stock = jax_patch.status()
    self.assertStock()
    jax_patch.apply()
    report = jax_patch.status()
    homes = [f"{m.__name__}.closure_convert" for m in CONVERT_HOMES]
    name = "jax._src.custom_derivatives.closure_convert"
    self.assertEqual(stock.names[name], dict.fromkeys(homes, "stock"))
    self.assertEqual(report.names[name], dict.fromkeys(homes, "patched"))
    self.assertEqual(report.names.keys(), stock.names.keys())
    self.assertEqual((stock.applied, report.applied), (False, True))
    self.assertEqual(report.jax_version, jax.__version__)
    self.assertIsNone(stock.refusal)
    self.assertIn("the patch is not applied, and can be", str(stock))
    self.assertIn("the patch is applied\n", str(report))
    for text in (*homes, "jax.experimental.ode.odeint", jax.__version__):
      self.assertIn(text, str(report))
    helper = "added    jax._src.custom_derivatives._closure_convert"
    places = [str(report).index(text) for text in (
        "the patch is applied", "patched  jax.closure_convert",
        "keep JAX's function", "not covered", "private names", helper)]
    self.assertEqual(places, sorted(places))

  def test_stale_names(self):
    library = types.ModuleType("a_library")
    lazy = types.ModuleType("a_lazy_library")
    library.took_before, library.unrelated = jax.closure_convert, True
    with mock.patch.dict(
        sys.modules, {"a_library": library, "a_lazy_library": lazy,
                      "not_a_module": object(), "none": None}):
      held = lambda: [n for n in jax_patch.status().stale if "a_lib" in n]
      self.assertEqual(held(), [])
      with jax_patch.patched():
        self.assertEqual(held(), ["a_library.took_before"])
        library.took_during = ode.odeint
        self.assertEqual(held(), ["a_library.took_before"])
      self.assertEqual(held(), ["a_library.took_during"])
      self.assertIn("  a_library.took_during", str(jax_patch.status()))

  def test_apply_warns_of_stale_names(self):
    library = types.ModuleType("a_library")
    library.closure_convert, library.solve = jax.closure_convert, ode.odeint
    with mock.patch.dict(sys.modules, {"a_library": library}):
      with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax_patch.apply()
        jax_patch.apply()
      warning, = caught
      self.assertIs(warning.category, UserWarning)
      self.assertEqual(warning.filename, __file__)
      self.assertStartsWith(
          str(warning.message),
          "imported from JAX before jax_patch was applied:"
          " a_library.closure_convert, a_library.solve. ")
      jax_patch.revert()
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        with self.assertRaisesRegex(UserWarning, "^imported from JAX before"):
          jax_patch.apply()
        self.assertStock()
        warnings.filterwarnings("ignore", "imported from JAX before")
        jax_patch.apply()
      self.assertTrue(is_patched())


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
