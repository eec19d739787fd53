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

"""The documentation, whose pages are executed as they are built.

  python -m sphinx -T -W -b html docs docs/_build/html
"""

import os
import pathlib
import sys

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.util import logging

# Commands in a page run this Python, on the CPU.
os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), os.environ.get("PATH", "")])
os.environ["JAX_PLATFORMS"] = "cpu"
# Pages import definitions from the examples.
_EXAMPLES = str(pathlib.Path(__file__).parent / "examples")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [_EXAMPLES, os.environ.get("PYTHONPATH")]))
os.environ["JAX_PPRINT_USE_COLOR"] = "0"

# The reference shows the docstrings that are in force under the patch.
import jax_patch  # noqa: E402
jax_patch.apply()

project = "jax.closure_convert, complete"
version = release = jax_patch.__version__

extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc",
              "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "benchmarks/*"]
copybutton_exclude = ".linenos, .gp, .go"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_use_rtype = False

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 120  # Seconds a cell.
nb_render_error_lexer = "text"
nb_merge_streams = True  # The output of a cell is one block.

html_theme = "sphinx_book_theme"
html_title = project
html_copy_source = False
html_use_index = False
html_static_path = html_css_files = ["site.css"]
html_math_renderer = "mathml"  # It needs no script from elsewhere.
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # The sidebar has the search.
    "footer_content_items": ["extra-footer"],
    "extra_footer": "An unofficial patch to JAX, under the Apache License 2.0.",
    "use_download_button": False,
}


def _check_errors(app, doctree):
  # A cell that is tagged raises-exception has to raise one.
  for cell in doctree.findall(nodes.container):
    if "tag_raises-exception" in cell["classes"] and not any(
        "traceback" in block["classes"]
        for block in cell.findall(nodes.literal_block)):
      logging.getLogger(__name__).warning(
          "A cell tagged raises-exception raised nothing:\n%s",
          cell.astext(), location=cell)


def _visit_math(translator, node):
  translator.body.append(latex2mathml.tex2mathml(
      node.astext(), as_block=isinstance(node, nodes.math_block)))
  raise nodes.SkipNode


def setup(app):
  renderer = _visit_math, None
  app.add_html_math_renderer("mathml", renderer, renderer)
  app.connect("doctree-read", _check_errors)
