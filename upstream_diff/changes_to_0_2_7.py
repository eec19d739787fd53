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
in ``custom_vjp`` nor most of what equality by structure rests on. What is added
is what was asked for: the function, and an ``odeint`` without one of its own.
"""

import pathlib

from upstream_diff.base import Base, BaseError
from upstream_diff.imports import add_imports, Import
from upstream_diff.merge import apply_edits, Edit, merge, remove
from upstream_diff.changes import Files, with_imports

_MIRROR = pathlib.Path(__file__).with_name("jax_0_2_7")

# Each mirror stands for a file of a module, which it may import from.
_MIRRORS = {
    "jax/custom_derivatives.py": ".custom_derivatives",
    "jax/experimental/ode.py": "jax.experimental.ode",
}
_REMOVES = ("closure_convert", "partition_list", "abstractify")
_TEST_MIRRORS = ("tests/api_test.py", "tests/ode_test.py")

SUBJECT, BODY = (_MIRROR / "message.md").read_text().strip().split("\n\n", 1)


def changed_files(base: Base) -> Files:
  """Returns what the patch makes of the files of that tree.

  Raises:
    BaseError: if the tree is not as expected, or has the patch already.
  """
  if "def closure_convert" in base.read("jax/custom_derivatives.py"):
    raise BaseError("This tree has the patch already: jax/custom_derivatives.py"
                    f" defines closure_convert, in {base.root}.")
  if base.version != "0.2.7":
    raise BaseError(f"This is jax {base.version}, in {base.root}. Of the early "
                    "ones, the diff is made for jax 0.2.7.")
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
  merged = merge(text, mirror)
  for name in _REMOVES if module == "jax.experimental.ode" else ():
    merged = remove(merged, name) or merged
  uses = lambda name: module is not None and base.uses(module, name, path)
  return text, with_imports(path, text, merged, [mirror], module, uses)


def _add_release(text: str) -> str:
  # Above the newest version, which is released.
  lines = text.splitlines()
  newest = next(i for i, line in enumerate(lines) if line.startswith("jax 0."))
  notes = (_MIRROR / "changelog.rst").read_text().splitlines()
  return apply_edits(text, [Edit(newest, newest, [*notes, ""])])


def _add_reference(text: str) -> str:
  # In the list of functions, and among their descriptions.
  lines = text.splitlines()
  summary = lines.index("    custom_vjp") + 1
  description = lines.index(".. autofunction:: checkpoint")
  return apply_edits(text, [
      Edit(summary, summary, ["    closure_convert"]),
      Edit(description, description, [".. autofunction:: closure_convert"])])
