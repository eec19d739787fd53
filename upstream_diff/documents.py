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

"""What a patch changes beside Python: changelog, documentation, Bazel."""

import re

from upstream_diff.base import Base, BaseError
from upstream_diff.imports import imports_of
from upstream_diff.merge import apply_edits, Edit
from upstream_diff.series import Patch

_DOCS = """
.. currentmodule:: jax.custom_derivatives

.. autosummary::
  :toctree: _autosummary

    {}

.. currentmodule:: jax
"""

_SECTIONS = ("New features", "Changes", "Bug fixes")


def documents(base: Base, patch: Patch,
              files: dict[str, tuple[str | None, str]]
              ) -> dict[str, tuple[str, str]]:
  """Returns what changes beside `files`, before and after."""
  found = build_files(base, patch) if base.exists("tests/BUILD") else {}
  if patch.changelog:
    old = base.read("CHANGELOG.md")
    found["CHANGELOG.md"] = old, add_bullet(old, *patch.changelog)
  before, after = files.get("jax/custom_derivatives.py", ("", ""))
  if names := imports_of(after).keys() - imports_of(before).keys():
    old = base.read("docs/jax.rst")
    found["docs/jax.rst"] = old, add_reference(old, sorted(names))
  return found


def add_bullet(text: str, section: str, bullet: list[str]) -> str:
  """Adds a bullet to a section of what is not released yet."""
  lines = text.splitlines()
  if "## Unreleased" not in lines:
    raise BaseError("CHANGELOG.md has no section `## Unreleased`.")
  start = lines.index("## Unreleased") + 1
  end = next((i for i in range(start, len(lines))
              if lines[i].startswith("## ")), len(lines))
  sections = {lines[i].strip("* :"): i for i in range(start, end)
              if lines[i].startswith("* ")}
  if section in sections:
    at = next((i for i in sections.values() if i > sections[section]), end)
    heading = []
  else:
    later = _SECTIONS[_SECTIONS.index(section) + 1:]
    at = min((i for s, i in sections.items() if s in later), default=end)
    heading = ["", f"* {section}"]
  while not lines[at - 1].strip():
    at -= 1
  return apply_edits(text, [Edit(at, at, [*heading, *bullet])])


def add_reference(text: str, names: list[str]) -> str:
  """Adds new functions after the list that has `closure_convert`."""
  lines = text.splitlines()
  try:
    i = [line.strip() for line in lines].index("closure_convert")
  except ValueError:
    raise BaseError("docs/jax.rst does not list closure_convert.") from None
  while i < len(lines) and lines[i].strip():
    i += 1
  return apply_edits(text, [Edit(
      i, i, _DOCS.format("\n    ".join(names)).splitlines())])


_TEST = """
jax_multiplatform_test(
    name = "{name}",
    srcs = ["{name}.py"],
    deps = [
        "//jax/_src:custom_derivatives",
    ] + py_deps([
        "absl/testing",
        "numpy",
    ]),
)
"""


def build_files(base: Base, patch: Patch) -> dict[str, tuple[str, str]]:
  """Returns the Bazel packages that a patch changes, before and after."""
  files = {}
  for package, targets in patch.content.get("bazel", {}).items():
    text = base.read(package)
    new = text
    for target, attributes in targets.items():
      for attribute, values in attributes.items():
        new = _add(package, new, target, attribute, values)
    files[package] = text, new
  tests = [path.removeprefix("tests/").removesuffix(".py")
           for path in patch.content.get("files", ())
           if path.startswith("tests/")]
  if tests:
    text, new = files.get("tests/BUILD", (base.read("tests/BUILD"),) * 2)
    _, end = _lines_of("tests/BUILD", new, "custom_api_test")
    entries = "".join(_TEST.format(name=name) for name in tests)
    files["tests/BUILD"] = text, apply_edits(
        new, [Edit(end, end, entries.splitlines())])
  return files


def _lines_of(package: str, text: str, target: str) -> tuple[int, int]:
  for match in re.finditer(r"^\w+\(\n.*?^\)$", text, re.MULTILINE | re.DOTALL):
    if f'\n    name = "{target}",\n' in match[0]:
      start = text.count("\n", 0, match.start())
      return start, start + match[0].count("\n") + 1
  raise BaseError(f"{package} has no target {target}.")


def _add(package: str, text: str, target: str, attribute: str,
         values: list[str]) -> str:
  # Adds to a list of strings, one a line and sorted as buildifier has them.
  for value in values:
    if value.startswith(":"):
      _lines_of(package, text, value[1:])
  start, end = _lines_of(package, text, target)
  block = "\n".join(text.splitlines()[start:end])
  if attribute == "py_deps":  # after the others
    if "py_deps" not in block:
      block = re.sub(r"(?<=\n    deps = )(\[[^]]*\])",
                     rf'\1 + py_deps("{values[0]}")', block)
    return apply_edits(text, [Edit(start, end, block.splitlines())])
  found = re.search(rf"^    {attribute} = (\[.*?\]|(?=py_deps))", block,
                    re.MULTILINE | re.DOTALL)
  if not found:
    raise BaseError(f"{package} has no {attribute} in {target}.")
  strings = {*re.findall(r'"(.*?)"', found[1]), *values}
  listed = "".join(f'        "{v}",\n'
                   for v in sorted(strings, key=lambda v: (v[0] != ":", v)))
  plus = "" if found[1] else " + "
  block = (f"{block[:found.start()]}    {attribute} = [\n{listed}    ]{plus}"
           f"{block[found.end():]}")
  return apply_edits(text, [Edit(start, end, block.splitlines())])
