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

"""The patch for jax 0.2.7, the last release without ``jax.closure_convert``.

Its mirror is the directory ``jax_0_2_7``. That JAX has neither symbolic zeros
in ``custom_vjp`` nor most of what equality by structure rests on, so little but
the idea can be shared. What is added there is what was asked for: the function,
and an ``odeint`` without a closure conversion of its own.
"""

import pathlib

from upstream_diff.base import Base, BaseError
from upstream_diff.imports import add_imports, Import
from upstream_diff.merge import apply_edits, Edit
from upstream_diff.patch import Files, merge_file

_MIRROR = pathlib.Path(__file__).with_name("jax_0_2_7")

_EXPECTED = {
    "jax/custom_derivatives.py": ["custom_vjp", "_initial_style_jaxpr"],
    "jax/api.py": ["custom_vjp"],
    "jax/__init__.py": ["custom_vjp"],
    "jax/experimental/ode.py": [
        "odeint", "closure_convert", "_odeint_wrapper", "_odeint",
        "_odeint_rev"],
}

# Each mirror stands for a file of a module, which it may import from.
_MIRRORS = {
    "jax/custom_derivatives.py": ".custom_derivatives",
    "jax/experimental/ode.py": "jax.experimental.ode",
}
_TEST_MIRRORS = ("tests/api_test.py", "tests/ode_test.py")

SUBJECT = "Add jax.closure_convert, and let odeint share it"
BODY = """\
A function that is given to a solver captures values, and the rule of the
solver's custom derivative does not see them. odeint has had a private way to
make them arguments. It becomes public, hoists every traced value, whatever its
dtype, and leaves other arrays inside. odeint differentiates beside integers and
booleans, as arguments or captured.

Answers #5222."""

_NOTES = """\
jax 0.2.8 (unreleased)
----------------------
* `GitHub commits <https://github.com/google/jax/compare/jax-v0.2.7...master>`_.

* New features:

  * Add ``jax.closure_convert`` for use with higher-order custom derivatives,
    and let ``odeint`` share it
    (`#5222 <https://github.com/google/jax/issues/5222>`_).

"""


def changed_files(base: Base) -> Files:
  """Returns what the patch makes of the files of that tree.

  Raises:
    BaseError: if the tree is not as expected, or has the patch already.
  """
  if "def closure_convert" in base.read("jax/custom_derivatives.py"):
    raise BaseError("This tree has the patch already: jax/custom_derivatives.py"
                    f" defines closure_convert, in {base.root}.")
  for path, names in _EXPECTED.items():
    base.check_defines(path, names)
  files: Files = {}
  for path, module in _MIRRORS.items():
    files[path] = _merge(base, path, module)
  for path, module in (("jax/api.py", ".custom_derivatives"),
                       ("jax/__init__.py", ".api")):
    text = base.read(path)
    files[path] = text, add_imports(
        text, [Import(module, "closure_convert", "closure_convert")])
  if not base.package_only:
    for path in _TEST_MIRRORS:
      files[path] = _merge(base, path, None)
    for path, edit in (("docs/CHANGELOG.rst", _add_release),
                       ("docs/jax.rst", _add_reference)):
      text = base.read(path)
      files[path] = text, edit(text)
  base.check_clean(sorted(files))
  return dict(sorted(files.items()))


def _merge(base: Base, path: str, module: str | None) -> tuple[str, str]:
  text = base.read(path)
  mirror = (_MIRROR / path.rpartition("/")[2]).read_text(encoding="utf-8")
  return text, merge_file(
      path, text, mirror, module, lambda name: module is not None and (
          base.uses(module, name, path)))


def _add_release(text: str) -> str:
  # Above the newest version, which is released.
  lines = text.splitlines()
  newest = next(i for i, line in enumerate(lines) if line.startswith("jax 0."))
  return apply_edits(text, [Edit(newest, newest, _NOTES.splitlines())])


def _add_reference(text: str) -> str:
  # In the list of functions, and among their descriptions.
  lines = text.splitlines()
  summary = lines.index("    custom_vjp") + 1
  description = lines.index(".. autofunction:: checkpoint")
  return apply_edits(text, [
      Edit(summary, summary, ["    closure_convert"]),
      Edit(description, description, [".. autofunction:: closure_convert"])])
