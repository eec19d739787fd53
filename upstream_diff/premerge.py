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
from upstream_diff.patch import Files, merge_module

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

_BULLET = """\
  * Add ``jax.closure_convert`` for use with higher-order custom derivatives,
    and let ``odeint`` share it (#5222).
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
    for path, edit in (("docs/CHANGELOG.rst", _add_bullet),
                       ("docs/jax.rst", _add_reference)):
      text = base.read(path)
      files[path] = text, edit(text)
  base.check_clean(sorted(files))
  return dict(sorted(files.items()))


def _merge(base: Base, path: str, module: str | None) -> tuple[str, str]:
  text = base.read(path)
  mirror = (_MIRROR / path.rpartition("/")[2]).read_text(encoding="utf-8")
  return text, merge_module(base, path, text, mirror, module)


def _add_bullet(text: str) -> str:
  # Among the new features of the newest version.
  lines = text.splitlines()
  at = lines.index("* New features:") + 2
  return apply_edits(text, [Edit(at, at, _BULLET.splitlines())])


def _add_reference(text: str) -> str:
  # In the list of functions, and among their descriptions.
  lines = text.splitlines()
  summary = lines.index("    custom_vjp") + 1
  description = lines.index(".. autofunction:: checkpoint")
  return apply_edits(text, [
      Edit(summary, summary, ["    closure_convert"]),
      Edit(description, description, [".. autofunction:: closure_convert"])])
