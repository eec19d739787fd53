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

"""Runs the tests on mutants of the mirrors, and lists the mutants that survive.

  python .ci/mutants.py run --jobs 2 --results mutants.jsonl
  python .ci/mutants.py table --results mutants.jsonl

A mutant is tried on the suites that go upstream (A), if it survives, on the
others (B), and last on those that take minutes (C). Each result is a line in the
file of results. A run that was cut off, by ``--seconds`` or otherwise, continues
when it is started with the same file. ``table`` writes ``docs/mutants.md``, and
keeps the reasons in it, which are written by hand.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import queue
import re
import shlex
import shutil
import sys
import tempfile
import threading
import time

import cosmic_ray.testing
from cosmic_ray.work_item import TestOutcome

import mutation_operators

ROOT = pathlib.Path(__file__).resolve().parent.parent
TREE = "jax_patch", "tests", "docs", "upstream_diff", "pyproject.toml"
UPSTREAM = ("tests/upstream/jaxpr_key_test.py",
            "tests/upstream/custom_api_test.py", "tests/upstream/ode_test.py")
OTHERS = (
    "tests/closures/equality_test.py", "tests/closures/conversion_test.py",
    "tests/closures/mutable_state_test.py", "tests/closures/caches_test.py",
    "tests/odeint/odeint_test.py")
LONG = "tests/processes/devices_test.py", "tests/odeint/drop_in_test.py"
SETS = {"A": UPSTREAM, "B": OTHERS, "C": LONG}
# The suites that kill most mutants of a file run first.
FIRST = {"custom_derivatives.py": ("custom_api", "conversion", "mutable_state"),
         "jaxpr_key.py": ("jaxpr_key", "equality", "mutable_state"),
         "hashable_array.py": ("jaxpr_key", "mutable_state"),
         "ode.py": ("ode_test", "odeint_test")}


def _suites(name, file):
  first = FIRST[os.path.basename(file)]
  return sorted(SETS[name], key=lambda suite: next(
      (i for i, f in enumerate(first) if f"/{f}" in suite), len(first)))


class _Runner:
  """Runs suites in copies of the tree, one for each thread."""

  def __init__(self, args, folder):
    self.end = args.end
    self.results = args.results
    self.lock = threading.Lock()
    self.trees = queue.Queue()
    for i, cpu in zip(range(args.jobs), itertools.cycle(
        sorted(os.sched_getaffinity(0)))):
      tree = pathlib.Path(folder, str(i))
      for name in TREE:
        if (ROOT / name).is_dir():
          shutil.copytree(
              ROOT / name, tree / name,
              ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
          shutil.copy(ROOT / name, tree / name)
      # XLA makes a thread for each processor.
      pin = ["taskset", "-c", str(cpu)] if args.pin else []
      self.trees.put((tree, pin))

  def run(self, suites, row, timeout, file="pyproject.toml", code=None):
    """Writes whether a test fails, which, and the time. Returns ``row``."""
    tree, pin = self.trees.get()
    original = (tree / file).read_text()
    try:
      left = self.end - time.monotonic()
      if left < 5 or not suites:
        return None
      (tree / file).write_text(code or original)
      path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
      start = time.monotonic()
      outcome, output = cosmic_ray.testing.run_tests(shlex.join([
          "env", "-C", str(tree), f"PYTHONPATH={path}", "JAX_PLATFORMS=cpu",
          *pin, sys.executable, "-m", "pytest", "-x", "-q", "--tb=line",
          # What killed the last mutant of this file may kill this one.
          "--ff", "-o", f"cache_dir=.cache/{file}", *suites]),
          min(timeout, left))
      seconds = round(time.monotonic() - start, 1)
    finally:
      (tree / file).write_text(original)
      self.trees.put((tree, pin))
    if output == "timeout" and left < timeout:
      return None  # It is this run that has no time left.
    if outcome == TestOutcome.INCOMPETENT:
      raise RuntimeError(f"pytest did not start: {output}")
    killed = outcome != TestOutcome.SURVIVED
    test = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    by = test[1] if test else output.strip()[-80:]
    row = row | {"killed": killed, "by": by if killed else "",
                 "seconds": seconds}
    with self.lock, self.results.open("a") as f:
      f.write(json.dumps(row) + "\n")
    if row["set"] == "no mutant" or not killed:
      print(row["set"], row["id"], by if killed else "passes", seconds,
            flush=True)
    return row


def run(args):
  mutants = {m.id: m for m in mutation_operators.mutants(ROOT)
             if not args.only or m.id in args.only.split(",")}
  known = {(r["id"], r["set"]): r for r in _rows(args.results)}
  with (tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(args.jobs) as pool):
    runner = _Runner(args, folder)

    def baseline(suite):
      row = known.get((suite, "no mutant"))
      return row if row and not row["killed"] else runner.run(
          [suite], {"id": suite, "set": "no mutant"}, 600)
    # A suite that fails here without a mutant kills nothing.
    baselines = {s: pool.submit(baseline, s)
                 for name in args.sets for s in SETS[name]}

    def attempt(mutant, name):
      if row := known.get((mutant.id, name)):
        return row
      rows = [baselines[s].result() for s in _suites(name, mutant.file)]
      rows = [row for row in rows if row and not row["killed"]]
      return runner.run(
          [row["id"] for row in rows],
          dataclasses.asdict(mutant) | {"code": "", "set": name},
          30 + 3 * sum(row["seconds"] for row in rows), mutant.file,
          mutant.code)
    # By lines, for the cache of pytest. Those of odeint take longest.
    order = sorted(mutants.values(), key=lambda m: (
        -mutation_operators.FILES.index(m.file), m.line))
    left = {pool.submit(attempt, m, "A") for m in order}
    done = collections.Counter()
    while left:
      some, left = concurrent.futures.wait(
          left, return_when=concurrent.futures.FIRST_COMPLETED)
      for row in filter(None, (future.result() for future in some)):
        done[row["set"], row["killed"]] += 1
        following = args.sets.partition(row["set"])[2][:1]
        if following and not row["killed"]:
          left.add(pool.submit(attempt, mutants[row["id"]], following))
      if sum(done.values()) % 20 == 0:
        print(dict(done), flush=True)
  print(len(mutants), "mutants;", dict(done))


def _rows(results):
  return [json.loads(line) for line in results.read_text().splitlines()
          ] if results.exists() else []


def table(args):
  """Writes docs/mutants.md, with the reasons that are in it."""
  page = ROOT / "docs" / "mutants.md"
  reasons = dict(re.findall(r"^\| `(\w{8})` .* \| (.*?) \|$",
                            page.read_text() if page.exists() else "", re.M))
  rows = _rows(args.results)
  killers = {r["id"]: r["by"] for r in rows if r["killed"] and r["set"] in "BC"}
  killed_by_a = {r["id"]: r["killed"] for r in rows if r["set"] == "A"}
  mutants = mutation_operators.mutants(ROOT)
  tried = [m for m in mutants if m.id in killed_by_a]
  alive_a = [m for m in tried if not killed_by_a[m.id]]
  alive_b = [m for m in alive_a if m.id not in killers]

  lines = [(ROOT / ".ci" / "mutants_intro.md").read_text(),
           "| file | mutants | equivalent | killed by the suites that go "
           "upstream | killed by all suites |", "|---|---|---|---|---|"]
  equivalent = [m for m in alive_b
                if reasons.get(m.id, "").startswith("equivalent")]
  for file in (*mutation_operators.FILES, ""):
    n, a, b, e = (sum(m.file.startswith(file) for m in ms)
                  for ms in (tried, alive_a, alive_b, equivalent))
    if n:
      lines.append(
          f"| {file or 'all'} | {n} | {e} | "
          f"{n - a} ({(n - a) / (n - e):.1%}) | "
          f"{n - b} ({(n - b) / (n - e):.1%}) |")
  if len(tried) < len(mutants):
    lines.append(f"\n{len(mutants) - len(tried)} mutants were not tried.")
  for title, ms, last in (
      ("Survivors of all suites", alive_b, lambda m: reasons.get(m.id, "")),
      ("Survivors of the suites that go upstream, killed by others",
       [m for m in alive_a if m not in alive_b],
       lambda m: f"`{killers[m.id].removeprefix('tests/')}`")):
    lines += [f"\n## {title}\n",
              "| mutant | line | change | "
              f"{'reason' if ms is alive_b else 'killed by'} |",
              "|---|---|---|---|"]
    lines += [f"| `{m.id}` | `{m.file.removeprefix('jax_patch/')}:{m.line}` | "
              f"{_change(m)} | {last(m)} |" for m in ms]
  page.write_text("\n".join(lines) + "\n")


def _change(mutant):
  def side(sign):
    text = " ".join(l[1:].strip() for l in mutant.diff.splitlines()
                    if l[0] == sign)
    # A bar would end the cell.
    return text.replace("|", "\\|")
  return f"`{side('-')}` → `{side('+')}`"


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("command", choices=["run", "table"])
  parser.add_argument("--results", type=pathlib.Path, required=True)
  parser.add_argument("--jobs", type=int, default=os.cpu_count())
  parser.add_argument("--seconds", type=float, default=float("inf"),
                      help="stop after that time")
  parser.add_argument("--sets", default="ABC", choices=["A", "AB", "ABC"],
                      help="A: only the suites that go upstream")
  parser.add_argument("--only", help="ids of mutants, with commas between")
  parser.add_argument("--pin", action="store_true",
                      help="each job on one processor, on an idle machine")
  args = parser.parse_args()
  args.end = time.monotonic() + args.seconds
  {"run": run, "table": table}[args.command](args)


if __name__ == "__main__":
  main()
