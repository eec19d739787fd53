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

"""Merges a mirror's docstring into upstream's, for both deliveries."""

import re


def merge(theirs: str, ours: str) -> str:
  """Returns the docstring ``theirs`` with the text of ``ours`` added to it.

  Prose is added before the first section, such as ``Args:``. The text of a
  section is added to the end of the section of the same title. Text that
  ``theirs`` has already is not added again.
  """
  (head, old), (prose, new) = _sections(theirs), _sections(ours)
  indent = re.match(" *", "".join(old)[:9])[0]
  if prose.strip() not in head:
    head += f"\n\n{indent}{prose.strip()}"
  for title, body in new.items():
    if body not in old.setdefault(title, ""):
      old[title] += body
  end = theirs[len(theirs.rstrip()):]
  return "\n\n".join([head, *map("".join, old.items())]) + end


def _sections(text: str) -> tuple[str, dict[str, str]]:
  head, *rest = re.split(
      r"^( *(?:Args|Returns|Raises):)$", text, flags=re.MULTILINE)
  return head.rstrip(), {
      title: body.rstrip() for title, body in zip(rest[::2], rest[1::2])}
