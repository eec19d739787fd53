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

"""Writes the pull request's diff: ``python -m upstream_diff``."""

import argparse
import functools
import pathlib
import re
import sys

from upstream_diff import changes
from upstream_diff import changes_to_0_2_7
from upstream_diff.base import Base, BaseError
from upstream_diff.check import check, check_series
from upstream_diff.diff import mail, unified_diff
from upstream_diff.series import PATCHES


def main(args: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog="python -m upstream_diff",
      description="Writes the diff of the whole patch, or a series of patches.")
  parser.add_argument(
      "--upstream", metavar="PATH",
      help="a checkout of JAX or an unpacked source tree, with tests, changelog"
      " and docs (otherwise the base is the installed JAX)")
  parser.add_argument(
      "-o", "--output", metavar="FILE",
      help="where to write (otherwise stdout)")
  parser.add_argument(
      "--series", metavar="DIR", nargs="?", const="",
      help="write the series of patches to that directory, for git am; with"
      " --check: check it, patch by patch")
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
      "--format-patch", action="store_true",
      help="write one commit with its message, ready for git am")
  what.add_argument(
      "--notes", action="store_true", help="write the notes for reviewers")
  what.add_argument(
      "--check", action="store_true",
      help="apply the diff to a copy of the base, and run the suites there")
  parser.add_argument(
      "--quick", action="store_true",
      help="with --check: a sample of the tests")
  options = parser.parse_args(args)
  is_series = options.series is not None
  if options.quick and not options.check:
    parser.error("--quick goes with --check")
  if is_series and (options.format_patch or options.notes):
    parser.error("--series goes alone or with --check")
  if is_series and bool(options.series) == options.check:
    parser.error("--series takes a directory, unless it goes with --check")
  if options.output and is_series != options.check:
    parser.error("--series DIR and --check write no file")
  try:
    if options.notes:
      _write(options.output, notes())
      return 0
    base = Base.find(options.upstream)
    log = functools.partial(print, flush=True)
    if is_series:
      if base.predates_closure_convert:
        raise BaseError("The patch for that JAX is one, and has no series.")
      if options.check:
        ok, table = check_series(base, options.quick, log)
        if options.output:
          _write(options.output, table)
        return 0 if ok else 1
      _write_series(base, pathlib.Path(options.series), log)
      return 0
    module = changes_to_0_2_7 if base.predates_closure_convert else changes
    files = module.changed_files(base)
    if options.check:
      return 0 if check(base, files, options.quick, log) else 1
    _write(options.output,
           mail(base.root, files, module.SUBJECT, module.BODY)
           if options.format_patch else unified_diff(files))
  except BaseError as error:
    print(f"upstream_diff: {error}", file=sys.stderr)
    return 2
  return 0


def notes() -> str:
  """Returns the notes for reviewers, with the table of the last check."""
  here = pathlib.Path(__file__).parent
  text = (here / "review_notes.md").read_text(encoding="utf-8")
  series = "\n\n".join(f"## {number}. {p.subject}\n\n{p.note}"
                       for number, p in enumerate(PATCHES, 1))
  table = (here / "patches" / "table.md").read_text(encoding="utf-8").rstrip()
  return text.replace("SERIES", series).replace("TABLE", table)


def _write_series(base: Base, directory: pathlib.Path, log):
  mails = {}
  for number, files in changes.series_files(base).items():
    p = PATCHES[number - 1]
    slug = re.sub(r"\W+", "-", p.subject).strip("-")
    mails[f"{number:04}-{slug[:52].rstrip('-')}.patch"] = mail(
        base.root, files, p.subject, p.body, f"PATCH {number}/{len(PATCHES)}")
  for p in PATCHES[:len(PATCHES) - len(mails)]:
    log(f"{p.subject}: is in the tree already")
  try:
    directory.mkdir(parents=True, exist_ok=True)
    if there := sorted(directory.glob("*.patch")):
      raise BaseError(f"There are patches in {directory} already, such as "
                      f"{there[0].name}. Remove them, or name a directory that"
                      " has none.")
  except OSError as error:
    raise BaseError(
        f"{directory} cannot be made: {error.strerror}.") from error
  for name, text in mails.items():
    _write(str(directory / name), text)
    log(name)
  log("Apply them with: git am --keep-non-patch")


def _write(output: str | None, text: str):
  if output is None:
    sys.stdout.write(text)
    return
  try:
    pathlib.Path(output).write_text(text, encoding="utf-8")
  except OSError as error:
    raise BaseError(f"{output} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
  sys.exit(main())
