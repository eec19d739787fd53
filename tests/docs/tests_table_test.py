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

"""The table of tests/README.md has every file of tests/, under its folder."""

import pathlib
import re

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()

_TESTS = pathlib.Path(__file__).parents[1]


class TestsTableTest(jtu.JaxTestCase):

  def test_files(self):
    table = re.findall(r"^\| (?:\*\*(\w+)/\*\*|`(\w+\.py)`) \| (\w*)",
                       (_TESTS / "README.md").read_text(), re.MULTILINE)
    listed, folder = {}, None
    for name, file, goes_upstream in table:
      folder = name or folder
      if file:
        listed[f"{folder}/{file}"] = goes_upstream
    self.assertCountEqual(
        listed, [f.relative_to(_TESTS).as_posix()
                 for f in _TESTS.glob("*/*.py")])
    for file, goes_upstream in listed.items():
      self.assertEqual(
          goes_upstream, "yes" if file.startswith("upstream/") else
          "no" if file.endswith("_test.py") else "helper")

  def test_names_differ(self):
    # They are imported by their names.
    names = [f.name for f in _TESTS.glob("*/*.py")]
    self.assertLen(set(names), len(names))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
