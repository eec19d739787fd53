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

"""The changelog and the documentation of an upstream tree."""

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
  """Returns the documents that change, before and after.

  Args:
    base: the upstream tree.
    patch: gets an entry in the changelog.
    files: what it makes of the modules.
  """
  changelog = base.read("CHANGELOG.md")
  docs = base.read("docs/jax.rst")
  before, after = files.get("jax/custom_derivatives.py", ("", ""))
  names = imports_of(after).keys() - imports_of(before).keys()
  return {"CHANGELOG.md": (changelog, add_bullet(changelog, *patch.changelog)),
          **({"docs/jax.rst": (docs, add_reference(docs, sorted(names)))}
             if names else {})}


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
