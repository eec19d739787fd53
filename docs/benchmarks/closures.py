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

"""Measures fresh closures on stock JAX and with the patch, side by side.

    python docs/benchmarks/closures.py [--quick] [--only NAME ...]

Prints a table, and writes it to closures.md and all that was measured to
closures.csv; `plot.py` draws the latter.

Stock JAX, the patched one and the peers each run in their own process, and the
processes take turns: while one runs a block of calls, the others wait on a
pipe. One process that applies and reverts the patch would save some seconds,
but stock JAX would slow down the patched one: a fresh closure on stock JAX
leaves its compiled solver and its captured values behind, JAX's caches are
bounded and shared, and every object left behind makes Python's garbage
collector slower. The peers also have to be imported where stock JAX is not
measured. Separate processes differ in how their memory is laid out. The control
shows how much this changes the times: it is stock JAX in one more process, and
is measured where the patch is expected to take as long as stock JAX.

The order of blocks is A B C, C B A, A B C, and so on, so that a machine that
slows down or is shared slows all of them down alike. A ratio divides two
medians over all calls. Before the first block, each process calls twice. The
first call compiles. For the second call, the script counts the programs that
are lowered, and compares the result with the base's.
"""

import argparse
import csv
import math
import os
import pathlib
import platform
import statistics
import sys
import time

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent.parent)]

import measures  # noqa: E402
from worker import Workers  # noqa: E402


### Measuring

def measure(workers, m, size, ways, rounds, progress):
  """Returns rows, one for each way."""
  times, firsts, notes = {}, {}, {}
  for way in ways:
    progress(f"{_label(m, size)}: starting {way}")
    kind = measures.worker_of(way)
    status, answer = workers.ask(kind, "start", m.name, way, size)
    if status == "ok":
      times[way], firsts[way] = [], answer
    else:
      notes[way] = f"{status}: {answer}"
  for i in range(rounds):
    progress(f"{_label(m, size)}: round {i + 1} of {rounds}")
    for way in list(times)[::(-1) ** i]:
      if sum(map(sum, times[way])) > 1 and len(times[way]) >= 3:
        continue
      status, answer = workers.ask(
          measures.worker_of(way), "time", way, .1, 100)
      if status == "ok":
        times[way].append(answer)
      else:
        notes[way] = f"{status}: {answer}"
  for kind in workers.kinds():
    workers.ask(kind, "done")
  return _rows(m, size, times, firsts, notes)

def _rows(m, size, times, firsts, notes):
  medians = {way: statistics.median(sum(blocks, []))
             for way, blocks in times.items() if any(blocks)}
  rows = []
  for way in [way for way in m.ways if way in medians or way in notes]:
    row = {"measure": m.name, "title": m.title, "size": size, "way": way,
           "unit": "s", "base": m.base, "note": notes.get(way, "")}
    if way in medians:
      calls = sorted(sum(times[way], []))
      result, lowerings = firsts[way]
      row |= {"median": medians[way], "low": calls[len(calls) // 4],
              "high": calls[(3 * len(calls)) // 4], "calls": len(calls),
              "lowerings": lowerings}
      if m.base in medians:
        row["ratio"] = medians[way] / medians[m.base]
        expected, _ = firsts[m.base]
        if not math.isclose(result, expected, rel_tol=1e-3):
          row["note"] = f"computed {result:g}, the base {expected:g}"
    if way == "ours":
      row |= {"must": m.must, "aim": m.aim}
      value = row.get("median" if m.in_seconds else "ratio", math.inf)
      ok = value <= m.must and row.get("lowerings") == 0
      row["verdict"] = "ok" if ok else "MISS"
    rows.append(row)
  return rows

def measure_memory(workers, m, counts, progress):
  """Returns rows: the memory that 1,000 closures retain."""
  rows = []
  for way, count in counts:
    progress(f"{m.name}: {way}, {count} closures")
    status, answer = workers.ask(way, "memory", m.name, way, count, 20)
    for name, unit, in_words in measures.RETAINED:
      row = {"measure": m.name, "title": f"{m.title}: {in_words}", "way": way,
             "size": name, "unit": unit, "base": "", "note": ""}
      if status == "ok":
        row |= {"median": answer[name] * 1000 / answer["count"],
                "calls": answer["count"],
                "note": f"{answer['count']} closures, scaled up to 1,000"
                        if answer["count"] < 1000 else ""}
        if way == "ours" and name != "rss" and m.must is not None:
          ok = row["median"] <= m.must
          row |= {"must": m.must, "aim": 0, "verdict": "ok" if ok else "MISS"}
      else:
        row["note"] = f"{status}: {answer}"
      rows.append(row)
  return rows

def _label(m, size):
  return m.name if size is None else f"{m.name}[{size}]"


### Reporting

_COLUMNS = ("measure", "title", "size", "way", "unit", "median", "low", "high",
            "calls", "lowerings", "base", "ratio", "must", "aim", "verdict",
            "note")

def conditions(workers, rounds, quick):
  status, versions = workers.ask("stock", "versions")
  if status != "ok":
    raise SystemExit(f"JAX cannot be measured: {versions}")
  return {
      **versions,
      "python": platform.python_version(),
      "platform": f"{platform.system()} {platform.machine()}",
      "cpus": len(os.sched_getaffinity(0))
              if hasattr(os, "sched_getaffinity") else os.cpu_count(),
      "rounds": rounds,
      "quick": quick,
  }

def write_csv(path, rows, about):
  with open(path, "w", newline="", encoding="utf-8") as f:
    for key, value in about.items():
      f.write(f"# {key}: {value}\n")
    writer = csv.DictWriter(f, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
      writer.writerow({
          k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})

def table(rows, about):
  """The rows as a Markdown table, one line for each measure and size."""
  header = ["measure", "base", "stock", "patched", "others", "lowered again",
            "must", "aim", ""]
  lines = [[_title(ours), _base(ours, ways), _ratio(ways.get("stock")),
            _ratio(ours), _others(ways), _lowered(ways),
            _limit(ours, "must"), _limit(ours, "aim"),
            ours.get("verdict", "")]
           for ways in _by_measure(rows) if (ours := ways.get("ours"))]
  widths = [max(map(len, column)) for column in zip(header, *lines)]
  rule = ["-" * width for width in widths]
  return "".join(
      "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |\n"
      for line in [header, rule, *lines]) + _footnotes(rows, about)

def _footnotes(rows, about):
  missed = [_title(row) for row in rows if row.get("verdict") == "MISS"]
  notes = {}
  for row in rows:
    if row["note"]:
      note = f"{row['way']}: {row['note'].rstrip('.')}"
      notes.setdefault(note, []).append(row["measure"])
  return "\n" + "\n".join([
      "Times are ratios to the base, whose time and name are in its column. "
      "*Limit* is arguments by hand and one `jax.make_jaxpr` of the closure, "
      "*hand* is arguments by hand, *trace* is one `jax.make_jaxpr`. *Lowered "
      "again* is how many programs the second call lowers, on stock JAX and "
      "with the patch. *Must* and *aim* are the most that the patched column "
      "may be and should be. *Retained* is after 1,000 closures.",
      "",
      f"Limits missed: {'; '.join(missed) or 'none'}.",
      "",
      *[f"- {note} ({', '.join(dict.fromkeys(names))})."
        for note, names in notes.items()],
      "",
      ", ".join(f"{key} {value}" for key, value in about.items())]) + "\n"

def _by_measure(rows):
  lines = {}
  for row in rows:
    lines.setdefault((row["measure"], row["size"]), {})[row["way"]] = row
  return lines.values()

def _title(row):
  if row["size"] is None or row["unit"] != "s":
    return row["title"]
  return f"{row['title']}: {row['size']:,}"

def _base(ours, ways):
  base = ways.get(ours["base"], {}).get("median")
  return "" if base is None else f"{_seconds(base)} ({ours['base']})"

def _seconds(x):
  return f"{x * 1e6:.3g} us" if x < 1e-3 else (
      f"{x * 1e3:.3g} ms" if x < 1 else f"{x:.3g} s")

def _ratio(row):
  if not row or row.get("median") is None:
    return ""
  if row["unit"] == "B":
    return f"{max(row['median'], 0) / 1e9:.2f} GB"
  if row["unit"] == "":
    return f"{row['median']:.0f}"
  ratio = row.get("ratio")
  return "" if ratio is None else f"{ratio:.2g}x" if ratio < 1 else (
      f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x")

def _others(ways):
  return ", ".join(f"{way} {_ratio(row)}" for way, row in ways.items()
                   if way not in ("stock", "ours", row["base"])
                   and row.get("ratio"))

def _lowered(ways):
  counts = [ways.get(way, {}).get("lowerings") for way in ("stock", "ours")]
  return "" if None in counts else f"{counts[0]}, {counts[1]}"

def _limit(row, name):
  unit = " s" if row["measure"] in measures.IN_SECONDS else ""
  return "" if row.get(name) is None else f"{row[name]:g}{unit}"


def main():
  parser = argparse.ArgumentParser(description="Measures fresh closures.")
  parser.add_argument("--quick", action="store_true",
                      help="fewer sizes and rounds")
  parser.add_argument("--only", nargs="+", default=[""], metavar="NAME",
                      help="only measures whose names start with NAME")
  parser.add_argument("--out", type=pathlib.Path, default=_HERE / "closures",
                      metavar="PREFIX", help="writes PREFIX.csv and PREFIX.md")
  options = parser.parse_args()
  started = time.monotonic()
  def progress(text):
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"[{minutes}:{seconds:02}] {text}", file=sys.stderr, flush=True)

  rounds = 3 if options.quick else 8
  chosen = tuple(options.only)
  workers, group, rows = Workers(), None, []
  about = conditions(workers, rounds, options.quick)
  try:
    for m in measures.MEASURES:
      if not m.name.startswith(chosen):
        continue
      if m.group != group:
        workers.stop()
        group = m.group
      for size in m.quick_sizes if options.quick else m.sizes:
        rows += measure(workers, m, size, m.ways, rounds, progress)
    for m in measures.MEMORY:
      if m.name.startswith(chosen):
        workers.stop()
        counts = m.quick_counts if options.quick else m.counts
        rows += measure_memory(workers, m, counts, progress)
  except KeyboardInterrupt:
    progress("interrupted: the table has the measures until now")
  finally:
    workers.stop()
  text = table(rows, about)
  print(text)
  write_csv(pathlib.Path(f"{options.out}.csv"), rows, about)
  pathlib.Path(f"{options.out}.md").write_text(text, encoding="utf-8")
  progress("done")


if __name__ == "__main__":
  main()
