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

"""What is patched, in which JAX, and which names are stale."""

import dataclasses
import sys
import types

from jax_patch import _patch

_NOT_COVERED = (
    "functions that JAX traced and cached before the patch was applied",
    "what local variables, containers and attributes of a program hold",
    "processes that the program starts, without --children or a call of apply:",
    "  see `python -m jax_patch --help`",
)


@dataclasses.dataclass(frozen=True)
class Status:
  """What :func:`status` found; ``str`` of it is a report to read.

  Attributes:
    jax_version: the version of the JAX that is imported.
    jaxlib_version: the version of its jaxlib.
    tested: whether the patch was tested with that version.
    applied: whether the patch is in force.
    refusal: why it cannot be applied, or None.
    names: for each name that the patch defines, the places where JAX has it,
      and what each holds: "stock", "patched", "absent", "added" or "rebound by
      something else".
    stale: names in loaded modules that hold an object from the other side of
      the patch: JAX's while it is in force, the patch's while it is not. Only
      the top level of modules is looked at.
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
        f" ({tested}; the tested range is {_patch.TESTED_JAX})",
        "the patch is " + ("applied" if self.applied else "not applied")
        + (f" and cannot be: {self.refusal}" if self.refusal
           else "" if self.applied else ", and can be"),
    ]
    states = [(home, state) for homes in self.names.values()
              for home, state in homes.items()]
    public, private = (
        [f"{state:8} {home}" for home, state in states
         if ("._" in home) == is_private] for is_private in (False, True))
    side = "an original" if self.applied else "a patched object"
    for title, found in (
        ("public names", public),
        (f"names in loaded modules that still hold {side}", self.stale),
        ("not covered", _NOT_COVERED),
        ("private names", private)):
      lines += ["", f"{title}:", *[f"  {line}" for line in found or ["none"]]]
    return "\n".join(lines)


def status() -> Status:
  """Says what is patched, in which JAX, and which names are stale.

  Imports the modules that the patch concerns, and changes nothing in them. A
  JAX that cannot be patched is no error here: the result says why.

  Returns:
    A :class:`Status`, whose ``str`` is a report to read.
  """
  import jax
  import jaxlib.version
  refusal = None
  try:
    applied, bindings = _patch.survey()
  except RuntimeError as error:
    applied, bindings, refusal = False, (), str(error)
  names: dict[str, dict[str, str]] = {}
  for b in bindings:
    names.setdefault(b.definition, {})[b.home] = b.state()
  return Status(
      jax_version=jax.__version__,
      jaxlib_version=jaxlib.version.__version__,
      tested=_patch.is_tested(jax.__version__),
      applied=applied,
      refusal=refusal,
      names=names,
      stale=_stale(bindings, applied))


def _stale(bindings, applied):
  # A rule's value may be any object, True for one: it is not looked for.
  other_side = {id(b.original if applied else b.replacement) for b in bindings
                if isinstance(b.owner, types.ModuleType)
                and b.original is not _patch.ABSENT}
  homes = {b.home for b in bindings}
  found = set()
  for module_name, module in list(sys.modules.items()):
    if (not isinstance(module, types.ModuleType)
        or module_name.startswith("jax_patch.")):
      continue
    # Not vars(): that would make a lazily imported module load itself.
    members = object.__getattribute__(module, "__dict__")
    found |= {f"{module_name}.{name}" for name, value in list(members.items())
              if id(value) in other_side}
  return tuple(sorted(found - homes))
