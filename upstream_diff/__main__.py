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
import sys

from upstream_diff import patch
from upstream_diff import premerge
from upstream_diff.base import Base, BaseError
from upstream_diff.check import check
from upstream_diff.diff import mail, unified_diff

_NOTES = pathlib.Path(__file__).with_name("review_notes.md")


def main(args: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog="python -m upstream_diff",
      description="Writes the diff of the whole patch.")
  parser.add_argument(
      "--upstream", metavar="PATH",
      help="a checkout of JAX or an unpacked source tree, with tests, changelog"
      " and docs (otherwise the base is the installed JAX)")
  parser.add_argument(
      "-o", "--output", metavar="FILE",
      help="where to write (otherwise stdout)")
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
  if options.quick and not options.check:
    parser.error("--quick goes with --check")
  if options.output and options.check:
    parser.error("--check writes no file")
  try:
    if options.notes:
      _write(options.output, _NOTES.read_text(encoding="utf-8"))
      return 0
    base = Base.find(options.upstream)
    files = (premerge if base.is_premerge else patch).changed_files(base)
    if options.check:
      log = functools.partial(print, flush=True)
      return 0 if check(base, files, options.quick, log) else 1
    _write(options.output,
           mail(files) if options.format_patch else unified_diff(files))
  except BaseError as error:
    print(f"upstream_diff: {error}", file=sys.stderr)
    return 2
  return 0


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
