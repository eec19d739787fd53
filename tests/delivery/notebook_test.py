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

"""Tests `%load_ext jax_patch` in a notebook with a real kernel."""

import importlib.util
import pathlib
import unittest

from absl.testing import absltest

import jax
from jax._src import test_util as jtu

import jax_patch

jax.config.parse_flags_with_absl()

CELLS = """
import jax
from jax import closure_convert
---
%load_ext jax_patch
---
print(jax.closure_convert.__module__, closure_convert.__module__)
---
%unload_ext jax_patch
---
print(jax.closure_convert.__module__)
"""


@unittest.skipUnless(
    all(map(importlib.util.find_spec, ("ipykernel", "nbclient"))),
    "needs ipykernel and nbclient, which the extra `docs` installs")
class NotebookTest(jtu.JaxTestCase):

  def test_load_ext(self):
    import nbclient
    import nbformat
    cells = map(nbformat.v4.new_code_cell, CELLS.strip().split("\n---\n"))
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    root = pathlib.Path(jax_patch.__file__).parents[1]
    nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": str(root)}}).execute()
    _, warned, shown, _, reverted = (
        "".join(output.text for output in cell.outputs)
        for cell in notebook.cells)
    self.assertIn("imported from JAX before jax_patch was applied:"
                  " __main__.closure_convert.", warned)
    self.assertEqual(
        shown, "jax_patch.custom_derivatives jax._src.custom_derivatives\n")
    self.assertEqual(reverted, "jax._src.custom_derivatives\n")


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
