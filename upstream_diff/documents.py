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

import re

from upstream_diff.base import Base, BaseError
from upstream_diff.merge import apply_edits, Edit

_BULLET = """\
  * {func}`jax.closure_convert` hoists every tracer that the function captures,
    whatever its dtype, and the functions that it returns compare by structure,
    so that a fresh closure is not compiled again. Keyword arguments, calls at
    other types and any callable are supported. The new
    `jax.custom_derivatives.closure_to_pytree` makes a closure a pytree.
    {func}`jax.experimental.ode.odeint` takes integers, booleans and PRNG keys,
    as arguments or captured, and its adjoint integrates cotangents only for
    what is differentiated ({jax-issue}`#5222`, {jax-issue}`#14760`).
"""

_DOCS = """
.. currentmodule:: jax.custom_derivatives

.. autosummary::
  :toctree: _autosummary

    closure_to_pytree

.. currentmodule:: jax
"""


def documents(base: Base) -> dict[str, tuple[str, str]]:
  """Returns the documents that change, before and after."""
  changelog, docs = base.read("CHANGELOG.md"), base.read("docs/jax.rst")
  return {"CHANGELOG.md": (changelog, add_bullet(changelog)),
          "docs/jax.rst": (docs, add_reference(docs))}


def add_bullet(text: str) -> str:
  """Adds a bullet to what is not released yet, under "Changes"."""
  lines = text.splitlines()
  if "## Unreleased" not in lines:
    raise BaseError("CHANGELOG.md has no section `## Unreleased`.")
  start = lines.index("## Unreleased") + 1
  end = next((i for i in range(start, len(lines))
              if lines[i].startswith("## ")), len(lines))
  bullet = _BULLET.splitlines()
  for i in range(start, end):
    if re.fullmatch(r"\* Changes:?", lines[i]):
      at = next((j for j in range(i + 1, end) if lines[j][:1] == "*"), end)
      while not lines[at - 1].strip():
        at -= 1
      return apply_edits(text, [Edit(at, at, bullet)])
  while end > start and not lines[end - 1].strip():
    end -= 1
  return apply_edits(text, [Edit(end, end, ["", "* Changes", *bullet])])


def add_reference(text: str) -> str:
  """Adds the new function after the list that has `closure_convert`."""
  lines = text.splitlines()
  try:
    i = [line.strip() for line in lines].index("closure_convert")
  except ValueError:
    raise BaseError("docs/jax.rst does not list closure_convert.") from None
  while i < len(lines) and lines[i].strip():
    i += 1
  return apply_edits(text, [Edit(i, i, _DOCS.splitlines())])
