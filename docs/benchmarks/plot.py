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

"""Draws closures.csv as closures.png, for the README.

    python docs/benchmarks/plot.py [PREFIX]
"""

import csv
import pathlib
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

_STYLES = {
    "stock": ("stock JAX", "#8c8c8c", "s"),
    "ours": ("this patch", "#1f6fd0", "o"),
    "equinox": ("equinox", "#2a9d5c", "^"),
    "diffrax": ("diffrax (to its own limit)", "#b07aa1", "v"),
    "jax.stages": ("jax.stages", "#c98b1b", "D"),
}
# Sizes in between say little at the width of a README.
_SKIPPED = {
    **dict.fromkeys(("convert_equations", "convert_traced", "convert_concrete",
                     "convert_pytree", "eager_call"), ("10", "1000")),
    "convert_and_compare": ("1", "10", "1000"),
    "matrix_gradient": ("512",),
}


def read(path):
  """Returns what the run was made under, and the lines in order."""
  with open(path, encoding="utf-8") as f:
    text = f.read().splitlines()
  about = dict(line[2:].split(": ", 1) for line in text if line[:2] == "# ")
  lines = {}
  for row in csv.DictReader(line for line in text if line[:2] != "# "):
    if row["median"] and row["size"] not in _SKIPPED.get(row["measure"], ()):
      line = lines.setdefault((row["measure"], row["size"]), {})
      line[row["way"]] = row
  return about, [ways for ways in lines.values() if "ours" in ways]


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
  ax.set_title("time, to the base of each line: arguments threaded by hand,\n"
               "a constant matrix, or else stock JAX (log scale)", fontsize=10)
  for way, (label, color, marker) in _STYLES.items():
    if any(way in ways for ways in lines):
      ax.plot([], [], marker, color=color, label=label)
  ax.plot([], [], color="#d62728", lw=2, label="must not exceed")
  ax.legend(fontsize=8, loc="lower right", framealpha=1)


def draw_memory(ax, lines):
  height = .38
  for y, ways in enumerate(lines):
    for i, way in enumerate(("stock", "ours")):
      if way in ways:
        gigabytes = float(ways[way]["median"]) / 1e9
        ax.barh(y + (i - .5) * height, gigabytes, height,
                color=_STYLES[way][1])
        ax.text(gigabytes, y + (i - .5) * height, f" {gigabytes:.2g} GB",
                va="center", fontsize=8)
  ax.set_yticks(range(len(lines)), [_label(ways["ours"]) for ways in lines])
  ax.set_ylim(len(lines) - .4, -.6)
  ax.margins(x=.15)
  ax.set_title("arrays retained after 1,000 fresh closures over 4 MB",
               fontsize=10)


def _label(row):
  if row["unit"] == "B":
    return row["title"].removeprefix("retained, ").removesuffix(" (live)")
  if row["size"]:
    return f"{row['title']}, {int(row['size']):,}"
  return row["title"]


def main(prefix):
  about, lines = read(prefix.with_suffix(".csv"))
  times = [ways for ways in lines if ways["ours"]["unit"] == "s"]
  memory = [ways for ways in lines if ways["ours"]["size"] == "live"]
  heights = [len(times) + 1, 1.4 * len(memory) + .5]
  if not memory:
    heights[1] = .1
  fig, (top, bottom) = plt.subplots(
      2, 1, figsize=(9, .3 * sum(heights) + 1.4), height_ratios=heights,
      layout="constrained")
  draw_ratios(top, times)
  if memory:
    draw_memory(bottom, memory)
  else:
    bottom.set_axis_off()
  for ax in top, bottom:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
  fig.supxlabel(
      f"JAX {about['jax']}, Python {about['python']}, {about['cpus']} CPUs, "
      f"{about['platform']}", fontsize=8, color="#555555")
  fig.savefig(prefix.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
  default = pathlib.Path(__file__).resolve().parent / "closures"
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
