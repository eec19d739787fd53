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

"""The notes for reviewers: one for each patch, and the table of the check."""

import pathlib

from upstream_diff.series import PATCHES

_HERE = pathlib.Path(__file__).parent
# Written by `python -m upstream_diff --check --series -o`.
TABLE = _HERE / "patches" / "table.md"


def notes() -> str:
  """Returns the notes, with the table of the last check."""
  series = "\n\n".join(f"## {number}. {patch.subject}\n\n{patch.note}"
                       for number, patch in enumerate(PATCHES, 1))
  table = (TABLE.read_text(encoding="utf-8").rstrip() if TABLE.exists()
           else "Not checked yet.")
  text = (_HERE / "review_notes.md").read_text(encoding="utf-8")
  return text.replace("SERIES", series).replace("TABLE", table)
