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

"""Reports which names are patched, in which JAX, and which are stale."""

import dataclasses

from jax_patch._delivery import patch
from jax_patch._delivery import stale

_NOT_COVERED = (
    "programs that JAX traced and cached before the patch was applied",
    "functions of JAX in local variables, containers and attributes",
    "processes that the program starts, without --children or a call of apply:",
    "  see `python -m jax_patch --help`",
)


@dataclasses.dataclass(frozen=True)
class Status:
  """The result of :func:`status`. ``str`` of it is a report to read.

  Attributes:
    jax_version: the version of JAX.
    jaxlib_version: the version of jaxlib.
    tested: whether the patch was tested with this version of JAX.
    applied: whether the patch is in force.
    refusal: why the patch cannot be applied, or None.
    names: for each name that the patch defines, the places where JAX has it,
      and the state of each: "stock", "patched", "absent", "added" or "rebound
      by something else".
    stale: names at the top level of loaded modules that hold JAX's object while
      the patch is in force, or the patch's object while it is not.
  """
  jax_version: str
  jaxlib_version: str
  tested: bool
  applied: bool
  refusal: str | None
  names: dict[str, dict[str, str]]
  stale: tuple[str, ...]

  def __str__(self) -> str:
    tested = "tested" if self.tested else "NOT tested"
    lines = [
        f"jax {self.jax_version}, jaxlib {self.jaxlib_version}"
        f" ({tested}; the tested range is {patch.TESTED_JAX})",
        "the patch is " + ("applied" if self.applied else "not applied")
        + (f" and cannot be: {self.refusal}" if self.refusal
           else "" if self.applied else ", and can be"),
    ]
    states = [(home, state) for homes in self.names.values()
              for home, state in homes.items()]
    public, private = (
        [f"{state:8} {home}" for home, state in states
         if ("._" in home) == is_private] for is_private in (False, True))
    kept = "JAX's" if self.applied else "the patch's"
    for title, found in (
        ("public names", public),
        (f"names in loaded modules that keep {kept} function", self.stale),
        ("not covered", _NOT_COVERED),
        ("private names", private)):
      lines += ["", f"{title}:", *[f"  {line}" for line in found or ["none"]]]
    return "\n".join(lines)


def status() -> Status:
  """Reports which names are patched, in which JAX, and which are stale.

  It imports the modules that the patch changes, and does not change them. If
  the patch cannot be applied, the result says why.

  Returns:
    An object with the attributes below. ``str`` of it is a report to read.
  """
  import jax
  import jaxlib.version
  refusal = None
  try:
    applied, bindings = patch.survey()
  except RuntimeError as error:
    applied, bindings, refusal = False, (), str(error)
  names: dict[str, dict[str, str]] = {}
  for b in bindings:
    names.setdefault(b.definition, {})[b.home] = b.state()
  return Status(
      jax_version=jax.__version__,
      jaxlib_version=jaxlib.version.__version__,
      tested=patch.is_tested(jax.__version__),
      applied=applied,
      refusal=refusal,
      names=names,
      stale=stale.names(bindings, applied))
