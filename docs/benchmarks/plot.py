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

summary.png is for the README, and is drawn only with no PREFIX.
"""

import csv
import pathlib
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

_HERE = pathlib.Path(__file__).resolve().parent
_STYLES = {
    "stock": ("stock JAX", "#8c8c8c", "s"),
    "ours": ("this patch", "#1f6fd0", "o"),
    "equinox": ("equinox", "#2a9d5c", "^"),
    "jax.stages": ("jax.stages", "#c98b1b", "D"),
}
_SUMMARY = {
    ("fresh_forward", ""): "fresh closure,\nodeint",
    ("fresh_gradient", ""): "fresh closure,\ngradient of odeint",
    ("matrix_gradient", "256"): "captured 256 x 256 matrix,\ngradient in y0",
}
_SUMMARY_MEMORY = {("memory_odeint", "live"): "arrays kept after 1,000\n"
                                              "closures over 4 MB"}


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
      if way in _STYLES and way != row["base"] and row["ratio"]:
        _, color, marker = _STYLES[way]
        ax.plot(float(row["ratio"]), y, marker, color=color, ms=7,
                zorder=4 if way == "ours" else 3)
    if must := ways["ours"]["must"]:
      ax.plot([float(must)] * 2, [y - .4, y + .4], color="#d62728", lw=2)
  ax.axvline(1, color="black", lw=1)
  ax.set_xscale("log")
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}x"))
  ax.set_yticks(range(len(lines)), [_label(ways["ours"]) for ways in lines])
  ax.set_ylim(len(lines) - .4, -.6)
  ax.grid(axis="x", color="#e4e4e4")
  ax.set_axisbelow(True)
  ax.set_title("time, as a multiple of the base of each line (log scale)",
               fontsize=10)
  for way, (label, color, marker) in _STYLES.items():
    if any(way in ways for ways in lines):
      ax.plot([], [], marker, color=color, label=label)
  ax.plot([], [], color="#d62728", lw=2, label="must not exceed")
  ax.legend(fontsize=8, loc="lower right", framealpha=1)


def draw_bars(ax, labels, values, text):
  """Draws a pair of bars for each label: stock JAX and this patch."""
  height = .38
  for i, way in enumerate(("stock", "ours")):
    name, color, _ = _STYLES[way]
    ys = [y + (i - .5) * height for y in range(len(labels))]
    widths = [value[i] for value in values]
    ax.barh(ys, widths, height, color=color, label=name)
    for y, width in zip(ys, widths):
      ax.text(width, y, f" {text(width)}", va="center", fontsize=9)
  ax.set_yticks(range(len(labels)), labels)
  ax.set_ylim(len(labels) - .4, -.6)
  ax.margins(x=.18)


def _medians(ways, unit=1.):
  return [float(ways[way]["median"]) / unit for way in ("stock", "ours")]


def _gigabytes(value):
  return f"{value:.2g} GB" if value else "none"


def _label(row):
  if row["unit"] == "B":
    return row["title"].removeprefix("retained, ").removesuffix(": arrays")
  if row["size"]:
    return f"{row['title']}, {int(row['size']):,}"
  return row["title"]


def _save(fig, about, path):
  for ax in fig.axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
  fig.supxlabel(
      f"JAX {about['jax']}, Python {about['python']}, {about['cpus']} CPUs, "
      f"{about['platform']}", fontsize=8, color="#555555")
  # The background is opaque, so that the text can be read on a dark page.
  fig.savefig(path, dpi=150, facecolor="white")


def draw_all(about, lines, path):
  times = [ways for ways in lines.values() if ways["ours"]["ratio"]]
  memory = [ways for ways in lines.values()
            if ways["ours"]["size"] == "live" and "stock" in ways]
  heights = [len(times) + 1, 1.4 * len(memory) + .5]
  fig, (top, bottom) = plt.subplots(
      2, 1, figsize=(9, .3 * sum(heights) + 1.4), height_ratios=heights,
      layout="constrained")
  draw_ratios(top, times)
  draw_bars(bottom, [_label(ways["ours"]) for ways in memory],
            [_medians(ways, 1e9) for ways in memory], _gigabytes)
  bottom.set_title("arrays kept after 1,000 fresh closures over 4 MB",
                   fontsize=10)
  _save(fig, about, path)


def draw_summary(about, lines, path):
  fig, (top, bottom) = plt.subplots(
      2, 1, figsize=(7.6, 3.6), height_ratios=[3, 1], layout="constrained")
  ratios = [[value / float(lines[key]["hand"]["median"])
             for value in _medians(lines[key])] for key in _SUMMARY]
  draw_bars(top, [*_SUMMARY.values()], ratios,
            lambda ratio: f"{ratio:.0f}x" if ratio > 10 else f"{ratio:.2g}x")
  top.set_xscale("log")
  top.set_xticks([])
  top.axvline(1, color="black", lw=1)
  top.set_title("time of a call; the line is the same with arguments by hand "
                "(log scale)", fontsize=10)
  top.legend(fontsize=9, loc="lower right")
  draw_bars(bottom, [*_SUMMARY_MEMORY.values()],
            [_medians(lines[key], 1e9) for key in _SUMMARY_MEMORY], _gigabytes)
  bottom.set_xticks([])
  _save(fig, about, path)


def main(args):
  prefix = pathlib.Path(args[0]) if args else _HERE / "closures"
  about, lines = read(prefix.with_suffix(".csv"))
  draw_all(about, lines, prefix.with_suffix(".png"))
  if not args:
    draw_summary(about, lines, _HERE / "summary.png")


if __name__ == "__main__":
  main(sys.argv[1:])
