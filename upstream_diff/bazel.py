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

"""Entries of new files in upstream's Bazel packages."""

import dataclasses
import re

from upstream_diff.base import Base, BaseError
from upstream_diff.imports import imports_of
from upstream_diff.merge import apply_edits, Edit

_TARGET = "custom_derivatives"  # is what the new modules are part of

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


@dataclasses.dataclass(frozen=True)
class _Target:
  name: str
  start: int  # the line of its opening
  end: int  # exclusive
  srcs: list[str]
  deps: list[str]


def _targets(text: str) -> list[_Target]:
  lines = text.splitlines()
  found = []
  for match in re.finditer(r"^\w+\(\n.*?^\)$", text, re.MULTILINE | re.DOTALL):
    start = text.count("\n", 0, match.start())
    block = match[0]
    name = re.search(r'^    name = "(.*)",$', block, re.MULTILINE)
    if name:
      found.append(_Target(name[1], start, start + block.count("\n") + 1,
                           _strings(block, "srcs"), _strings(block, "deps")))
  assert all(lines[t.end - 1] == ")" for t in found)
  return found


def _strings(block: str, attribute: str) -> list[str]:
  value = re.search(rf"^    {attribute} = \[(.*?)\]", block,
                    re.MULTILINE | re.DOTALL)
  return re.findall(r'"(.*?)"', value[1]) if value else []


def _set_strings(lines: list[str], t: _Target, attribute: str,
                 values: list[str]) -> list[Edit]:
  if values == getattr(t, attribute):
    return []
  first = next(i for i in range(t.start, t.end)
               if lines[i].startswith(f"    {attribute} = ["))
  last = next(i for i in range(first, t.end) if "]" in lines[i])
  return [Edit(first, last + 1, [
      f"    {attribute} = [", *[f'        "{v}",' for v in values],
      "    ]" + lines[last].partition("]")[2]])]


def build_files(base: Base, files: dict[str, tuple[str | None, str]]
                ) -> dict[str, tuple[str, str]]:
  """Returns the Bazel packages that change, before and after.

  Args:
    base: the upstream tree.
    files: the modules and the tests that the patch changes or adds.
  """
  package = "jax/_src/"
  changed = [path for path in files if path.startswith(package)]
  if not changed or not base.exists("jax/_src/BUILD"):
    return {}
  new = {directory: [path.removeprefix(directory)
                     for path, (before, _) in files.items()
                     if before is None and path.startswith(directory)]
         for directory in (package, "tests/")}
  text = base.read("jax/_src/BUILD")
  targets = {t.name: t for t in _targets(text)}
  if _TARGET not in targets:
    raise BaseError(f"jax/_src/BUILD has no target {_TARGET}.")
  target = targets[_TARGET]
  srcs = sorted([*target.srcs, *new[package]])
  owner = {src: t for t in targets.values() for src in t.srcs}
  needed = set()
  for src in srcs:
    path = package + src
    text_of_src = files[path][1] if path in files else base.read(path)
    for i in imports_of(text_of_src).values():
      module = i.module or i.attr
      for m in (f"{module}.{i.attr}", module):
        if not m.startswith("jax._src."):
          continue
        path = f"{m.removeprefix('jax._src.').replace('.', '/')}.py"
        if path in owner and owner[path].name != _TARGET:
          needed.add(f":{owner[path].name}")
      if module == "jax._src.lib":
        needed.add("//jax/_src/lib")
  reachable = _reachable(targets, needed)
  if f":{_TARGET}" in reachable:
    raise BaseError(f"jax/_src/BUILD would have a cycle through {_TARGET}.")
  lines = text.splitlines()
  deps = sorted({*target.deps, *needed}, key=lambda d: (d[0] != ":", d))
  edits = [*_set_strings(lines, target, "srcs", srcs),
           *_set_strings(lines, target, "deps", deps)]
  result = {"jax/_src/BUILD": (text, apply_edits(text, edits))}

  text = base.read("tests/BUILD")
  after = {t.name: t for t in _targets(text)}.get("custom_api_test")
  if after is None:
    raise BaseError("tests/BUILD has no target custom_api_test.")
  entries = [line for test in new["tests/"] for line in _TEST.format(
      name=test.removesuffix(".py")).splitlines()]
  result["tests/BUILD"] = text, apply_edits(
      text, [Edit(after.end, after.end, entries)])
  return {path: texts for path, texts in result.items() if texts[0] != texts[1]}


def _reachable(targets: dict[str, _Target], deps: set[str]) -> set[str]:
  seen: set[str] = set()
  todo = set(deps)
  while todo:
    dep = todo.pop()
    seen.add(dep)
    if dep.startswith(":") and dep[1:] in targets:
      todo |= {*targets[dep[1:]].deps} - seen
  return seen
