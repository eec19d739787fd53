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


class TestsTableTest(jtu.JaxTestCase):

  def test_files(self):
    tests = pathlib.Path(__file__).parents[1]
    row = re.compile(r"^\| (?:\*\*(\w+)/\*\*|`(\S+)` \| (\w+))", re.MULTILINE)
    listed, folder = [], None
    for name, *file in row.findall((tests / "README.md").read_text()):
      folder = name or folder
      if not name:
        listed.append((folder, *file))
    found = [(f.parent.name, f.name, "yes" if f.parent.name == "upstream" else
              "no" if f.name.endswith("_test.py") else "helper")
             for f in tests.glob("*/*.py")]
    self.assertCountEqual(listed, found)
    # The helpers are imported by their names.
    self.assertLen({name for _, name, _ in found}, len(found))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
