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

"""The diff itself: as text, as a commit to be applied, and its application."""

import os
import pathlib
import subprocess
import tempfile

from upstream_diff.base import BaseError
from upstream_diff.changes import Files

# Nothing that a user has configured shows in the output.
_ENV = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C"}

def git(*args: str, cwd: pathlib.Path, ok: tuple[int, ...] = (0,),
        env: dict[str, str] = _ENV) -> str:
  """Runs git and returns what it printed."""
  try:
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True,
                          env={**os.environ, **env})
  except FileNotFoundError:
    raise BaseError("git is not installed.") from None
  if done.returncode not in ok:
    raise BaseError(f"git {args[0]} failed in {cwd}:\n"
                    f"{done.stderr.decode(errors='replace').rstrip()}")
  return done.stdout.decode()


def unified_diff(files: Files) -> str:
  """Returns the diff of the files, with upstream's paths."""
  with tempfile.TemporaryDirectory() as tmp:
    root = pathlib.Path(tmp)
    for path, texts in files.items():
      for side, text in zip("ab", texts):
        if text is not None:
          file = root / side / path
          file.parent.mkdir(parents=True, exist_ok=True)
          file.write_text(text, encoding="utf-8")
    return git(
        "diff", "--no-index", "--no-prefix", "--no-color", "--no-renames",
        "--no-ext-diff", "--full-index", "--diff-algorithm=histogram",
        "a", "b", cwd=root, ok=(0, 1))


def mail(root: pathlib.Path, files: Files, subject: str, body: str,
         tag: str = "PATCH") -> str:
  """Returns the diff as one commit, in the form that ``git am`` takes.

  Its author is the one whom git knows in the tree.
  """
  try:
    name, email = (
        git("config", f"user.{key}", cwd=root,
            env={"GIT_CEILING_DIRECTORIES": str(root.parent)}).strip()
        for key in ("name", "email"))
  except BaseError:
    raise BaseError(f"A commit needs an author, and git knows none in {root}: "
                    "set user.name and user.email there.") from None
  diff = unified_diff(files)
  with tempfile.TemporaryDirectory() as tmp:
    stat = apply_to(pathlib.Path(tmp), diff, "--stat", "--summary")
  return (f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
          f"From: {name} <{email}>\nSubject: [{tag}] {subject}\n"
          "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
          "Content-Transfer-Encoding: 8bit\n\n"
          f"{body}\n---\n{stat}\n{diff}")


def apply_to(tree: pathlib.Path, diff: str, *options: str) -> str:
  """Applies a diff to a tree, with no fuzz, or raises a BaseError."""
  with tempfile.TemporaryDirectory() as tmp:
    file = pathlib.Path(tmp, "patch.diff")
    file.write_text(diff, encoding="utf-8")
    # The tree is taken for what it is, also if it lies in some repository.
    return git("apply", "--whitespace=error-all", *options, str(file), cwd=tree,
               env={**_ENV, "GIT_CEILING_DIRECTORIES": str(tree.parent)})
