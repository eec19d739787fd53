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

"""Draws closures.csv: all of it as closures.png, the main lines as summary.png.

    python docs/benchmarks/plot.py [PREFIX]

summary.png is for the README, and is drawn only with no PREFIX. Its ratios have
the bases of the tables.
"""

import csv
import pathlib
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

import measures  # noqa: E402

_HERE = pathlib.Path(__file__).resolve().parent
_STYLES = {
    "stock": ("stock JAX", "#8c8c8c", "s"),
    "ours": ("this patch", "#1f6fd0", "o"),
    "equinox": ("equinox", "#2a9d5c", "^"),
    "jax.stages": ("jax.stages", "#c98b1b", "D"),
    "hand": ("arguments by hand", "#2b2b2b", "|"),
}
_SUMMARY_WAYS = "stock", "ours", "hand"
_SUMMARY = {
    ("fresh_forward", ""): "fresh closure,\nodeint",
    ("fresh_gradient", ""): "fresh closure,\ngradient of odeint",
    ("matrix_gradient", "256"): "captured 256 x 256 matrix,\ngradient in y0",
}
_SUMMARY_MEMORY = "memory_odeint", "live"


def read(path):
  """Returns what the run was made under, and the lines in order."""
  with open(path, encoding="utf-8") as f:
    text = f.read().splitlines()
  about = dict(line[2:].split(": ", 1) for line in text if line[:2] == "# ")
  lines = {}
  for row in csv.DictReader(line for line in text if line[:2] != "# "):
    if row["median"]:
      line = lines.setdefault((row["measure"], row["size"]), {})
      line[row["way"]] = row
  return about, {key: ways for key, ways in lines.items() if "ours" in ways}


def draw_ratios(ax, lines):
  for y, ways in enumerate(lines):
    for way, row in ways.items():
      if way in _STYLES and way not in ("hand", row["base"]) and row["ratio"]:
        _, color, marker = _STYLES[way]
        ax.plot(float(row["ratio"]), y, marker, color=color, ms=7,
                zorder=4 if way == "ours" else 3)
    if must := _most(ways):
      ax.plot([must] * 2, [y - .4, y + .4], color="#d62728", lw=2)
  ax.axvline(1, color="black", lw=1)
  ax.set_xscale("log")
  ax.xaxis.set_major_locator(ticker.LogLocator(numticks=6))
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(
      lambda x, _: f"{x:.6f}".rstrip("0").rstrip(".") + "x"))
  ax.set_yticks(range(len(lines)), [_label(ways["ours"]) for ways in lines])
  ax.set_ylim(len(lines) - .4, -.6)
  ax.grid(axis="x", color="#e4e4e4")
  ax.set_axisbelow(True)
  ax.set_title("time, as a multiple of the base of each line (log scale)",
               fontsize=10)
  for way, (label, color, marker) in _STYLES.items():
    if way != "hand" and any(way in ways for ways in lines):
      ax.plot([], [], marker, color=color, label=label)
  ax.plot([], [], color="#d62728", lw=2, label="must not exceed")
  ax.figure.legend(fontsize=8, ncols=5, loc="outside upper center")


def _most(ways):
  """The limit of a line as a ratio, or None."""
  ours = ways["ours"]
  if not ours["must"]:
    return None
  if ours["measure"] in measures.IN_SECONDS:
    return float(ours["must"]) / float(ways[ours["base"]]["median"])
  return float(ours["must"])


def draw_bars(ax, labels, ways, values, texts):
  """Draws a bar of `values[i][j]` for `labels[i]` and `ways[j]`."""
  height = .8 / len(ways)
  for j, way in enumerate(ways):
    name, color, _ = _STYLES[way]
    ys = [i + (j - (len(ways) - 1) / 2) * height for i in range(len(labels))]
    widths = [value[j] for value in values]
    ax.barh(ys, widths, height, color=color, label=name)
    for y, width, text in zip(ys, widths, texts):
      ax.text(width, y, f" {text[j]}", va="center", fontsize=9)
  ax.set_yticks(range(len(labels)), labels)
  ax.set_ylim(len(labels) - .5, -.5)


def draw_memory(ax, labels, lines):
  ways = "stock", "ours"
  values = [[float(line[way]["median"]) / 1e9 for way in ways]
            for line in lines]
  texts = [[f"{value:.2g} GB" if value else "none" for value in line]
           for line in values]
  draw_bars(ax, labels, ways, values, texts)
  ax.margins(x=.18)
  ax.set_xlim(left=0)
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g} GB"))


def draw_times(ax, labels, lines):
  values = [[float(line[way]["median"]) for way in _SUMMARY_WAYS]
            for line in lines]
  texts = [[f"{_time(line[way]['median'])} ({_times(line[way]['ratio'])})"
            for way in _SUMMARY_WAYS] for line in lines]
  draw_bars(ax, labels, _SUMMARY_WAYS, values, texts)
  ax.set_xscale("log")
  ax.set_xlim(1e-5, 12 * max(map(max, values)))
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _time(x)))
  ax.xaxis.set_minor_locator(ticker.NullLocator())
  ax.grid(axis="x", color="#e4e4e4")
  ax.set_axisbelow(True)


def _time(seconds):
  ms = float(seconds) * 1e3
  return f"{ms:.2g} ms" if ms < 100 else (
      f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1e3:.2g} s")


def _times(ratio):
  return f"{float(ratio):.0f}x" if float(ratio) > 10 else f"{float(ratio):.2g}x"


def _label(row):
  if row["unit"] == "B":
    return row["title"].removeprefix("retained, ").removesuffix(": arrays")
  if row["size"]:
    return f"{row['title']}: {int(row['size']):,}"
  return row["title"]


def _save(fig, about, path, *notes):
  for ax in fig.axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
  made = (f"JAX {about['jax']}, Python {about['python']}, "
          f"{about['cpus']} CPUs, {about['platform']}")
  fig.supxlabel("\n".join([*notes, made]), fontsize=8, color="#555555")
  # The background is opaque, so that the text can be read on a dark page.
  fig.savefig(path, dpi=150, facecolor="white")


def _scaled_up(lines):
  """Says for which bars of memory fewer closures were measured."""
  counts = dict.fromkeys((_STYLES[way][0], row["calls"])
                         for ways in lines for way, row in ways.items()
                         if row["note"])
  return "Arrays: scaled up to 1,000 closures from " + ", and from ".join(
      f"{calls} for {name}" for name, calls in counts) + "."


def draw_all(about, lines, path):
  times = [ways for ways in lines.values() if ways["ours"]["ratio"]]
  memory = [ways for ways in lines.values()
            if ways["ours"]["size"] == "live" and "stock" in ways]
  heights = [len(times) + 1] + ([1.4 * len(memory) + .5] if memory else [])
  fig, axes = plt.subplots(
      len(heights), 1, figsize=(9, .3 * sum(heights) + 1.4), squeeze=False,
      height_ratios=heights, layout="constrained")
  top, *rest = axes[:, 0]
  draw_ratios(top, times)
  for bottom in rest:
    draw_memory(bottom, [_label(ways["ours"]) for ways in memory], memory)
    bottom.set_title("arrays kept after 1,000 fresh closures over 4 MB",
                     fontsize=10)
  _save(fig, about, path, *[_scaled_up(memory)] * len(rest))


def draw_summary(about, lines, path):
  fig, (top, bottom) = plt.subplots(
      2, 1, figsize=(7.6, 4.8), height_ratios=[3.6, 1], layout="constrained")
  draw_times(top, [*_SUMMARY.values()], [lines[key] for key in _SUMMARY])
  top.set_xlabel("time of a call, on a log scale", fontsize=9)
  fig.legend(*top.get_legend_handles_labels(), fontsize=9, ncols=3,
             loc="outside upper center")
  memory = lines[_SUMMARY_MEMORY]
  draw_memory(bottom, ["arrays kept after 1,000\nclosures over 4 MB"], [memory])
  _save(fig, about, path,
        "In parentheses: the ratio to the same computation with arguments by "
        "hand,\nplus one trace if the closure is fresh.", _scaled_up([memory]))


def main(args):
  prefix = args[0] if args else _HERE / "closures"
  about, lines = read(f"{prefix}.csv")
  draw_all(about, lines, f"{prefix}.png")
  if not args:
    draw_summary(about, lines, _HERE / "summary.png")


if __name__ == "__main__":
  main(sys.argv[1:])
