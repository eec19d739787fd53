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

"""The patches of the series: a directory of `patches` for each, in order.

``N_name/patch.toml`` says what the patch brings, by name:

  adds, changes, removes: of each upstream file, definitions ("f"), rules that
    are set ("f.defvjp"), and methods and tests ("Class.method").
  files: those that upstream does not have.
  bazel: of each package and target, `srcs` and `deps` that it gets.
  section, changelog: a bullet of the changelog, and where it goes.

``message.md`` is its commit message, and ``notes.md`` what a reviewer will ask.
A definition whose form in the patch is not the final one is in a file of its
upstream path in the directory. All others are taken from the project's mirrors
and tests. To add a patch, or to drop one that was merged, move its directory.
"""

import ast
import dataclasses
import functools
import pathlib
import tomllib

import jax_patch
from jax_patch._delivery.patch import UPSTREAM
from upstream_diff.merge import statements, tree_of

DIRECTORY = pathlib.Path(__file__).with_name("patches")
MIRROR = pathlib.Path(jax_patch.__file__).parent
TESTS = MIRROR.parent / "tests" / "upstream"


def path_of(module: str) -> str:
  return module.replace(".", "/") + ".py"


# Of each upstream file the module that it is, and the mirror of it.
MODULES = {path_of(name): name for name in UPSTREAM.values()}
MIRRORS = {path_of(name): MIRROR.parent / path_of(mirror)
           for mirror, name in UPSTREAM.items()}


@dataclasses.dataclass(frozen=True)
class Patch:
  """One commit of the series, which is a directory."""
  directory: pathlib.Path

  def _read(self, name: str) -> str:
    return (self.directory / name).read_text(encoding="utf-8").strip("\n")

  @functools.cached_property
  def content(self) -> dict:
    return tomllib.loads(self._read("patch.toml"))

  @property
  def subject(self) -> str:
    return self._read("message.md").partition("\n")[0]

  @property
  def body(self) -> str:
    return self._read("message.md").partition("\n")[2].strip("\n")

  @property
  def note(self) -> str:
    return self._read("notes.md")

  @property
  def changelog(self) -> tuple[str, list[str]] | None:
    """The section of the changelog, and the lines of the bullet."""
    if "changelog" not in self.content:
      return None
    return (self.content["section"],
            self.content["changelog"].strip("\n").splitlines())

  @property
  def paths(self) -> list[str]:
    """The upstream files in which it adds or changes something by name."""
    return sorted({path for what in ("adds", "changes", "removes")
                   for path in self.names(what)})

  def names(self, what: str) -> dict[str, list[str]]:
    """What it "adds", "changes" or "removes" in each file."""
    return self.content.get(what, {})

  def mirrors(self, path: str) -> list[tuple[str, set[str]]]:
    """Texts with definitions for an upstream file, and the names of those."""
    names = {*self.names("adds").get(path, ()),
             *self.names("changes").get(path, ())}
    texts = []
    if (own := self.directory / path).exists():
      text = own.read_text(encoding="utf-8")
      texts = [(text, names & defined(text))]
    final = project_file(path).read_text(encoding="utf-8")
    rest = names.difference(*(found for _, found in texts))
    if missing := rest - defined(final):
      raise AssertionError(
          f"{self.directory.name} names {sorted(missing)} of {path}")
    return [*texts, (final, rest)]

  def new_file(self, path: str) -> str:
    """The text of a file that upstream does not have."""
    own = self.directory / path
    return (own if own.exists() else project_file(path)).read_text(
        encoding="utf-8")


def project_file(path: str) -> pathlib.Path:
  """The file of the project that stands for an upstream one."""
  if path.startswith("tests/"):
    return TESTS / path.removeprefix("tests/")
  return MIRRORS.get(path) or MIRROR / path.removeprefix("jax/").removeprefix(
      "_src/")


def defined(text: str) -> set[str]:
  """The names of what a file defines, as the lists of the patches have them."""
  names = set()
  for s in statements(text, tree_of(text).body):
    names.add(s.name)
    if isinstance(s.node, ast.ClassDef):
      names |= {f"{s.name}.{m.name}" for m in statements(text, s.node.body)}
  return names


PATCHES = tuple(Patch(d) for d in sorted(
    DIRECTORY.glob("[0-9]*_*"), key=lambda d: int(d.name.partition("_")[0])))
