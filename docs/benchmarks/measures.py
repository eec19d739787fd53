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

"""The measures: what each compares, and the limits that must hold.

A measure names a case, which is a function of `cases` or `memory_cases`, and
the ways of computing it. The time of each way is divided by that of the first
one, the base.
"""

import dataclasses

PEERS = ("equinox", "jax.stages")


@dataclasses.dataclass(frozen=True)
class Measure:
  """A line of the table, for each of its sizes."""
  name: str
  title: str
  ways: tuple[str, ...]  # the first is the base
  group: str  # measures of a group share their worker processes
  must: float | None = None  # the most that ours / base may be
  aim: float | None = None
  sizes: tuple[int | None, ...] = (None,)
  quick_sizes: tuple[int | None, ...] = (None,)
  in_seconds: bool = False  # whether `must` and `aim` are

  @property
  def base(self) -> str:
    return self.ways[0]


_FRESH = dict(ways=("limit", "stock", "ours", "hand"), group="fresh",
              must=1.25, aim=1)
_AGAIN = dict(ways=("stock", "ours", "control"), group="again",
              must=1, aim=.3)
_CONVERT = dict(ways=("stock", "ours", "control", *PEERS), group="convert",
                must=1.15, aim=1, quick_sizes=(100,))
_KEY = dict(ways=("trace", "ours"), group="key", sizes=(100, 1000, 10_000),
            quick_sizes=(100,))

MEASURES = (
    Measure("fresh_forward", "fresh closure, odeint", **_FRESH),
    Measure("fresh_gradient", "fresh closure, gradient of odeint", **_FRESH),
    Measure("fresh_mlp_forward", "fresh MLP closure, odeint", **_FRESH),
    Measure("fresh_mlp_gradient", "fresh MLP closure, gradient", **_FRESH),
    Measure("rule_forward", "dynamics with a custom_jvp rule, odeint",
            **_FRESH),
    Measure("rule_gradient", "dynamics with a custom_jvp rule, gradient",
            **_FRESH),
    Measure("callback_forward", "dynamics with a callback, odeint", **_FRESH),
    Measure("callback_gradient", "dynamics with a callback, gradient",
            **_FRESH),
    Measure("solver_forward", "dynamics with a root finder, odeint", **_FRESH),
    Measure("solver_gradient", "dynamics with a root finder, gradient",
            **_FRESH),
    Measure("pytree_forward", "fresh closure as a pytree through jit",
            **{**_FRESH, "group": "solver"}),
    Measure("pytree_gradient", "gradient of that",
            **{**_FRESH, "group": "solver"}),
    Measure("static_gradient", "static converted function, gradient",
            **{**_FRESH, "group": "solver"}),
    Measure("again_forward", "function passed again, odeint", **_AGAIN),
    Measure("again_gradient", "function passed again, gradient",
            **{**_AGAIN, "aim": 1}),
    Measure("again_partial", "partial object passed again, odeint",
            **{**_AGAIN, "must": 1.25, "aim": .5}),
    Measure("again_jit", "jitted function passed again, odeint",
            **{**_AGAIN, "must": 1.25, "aim": .5}),
    Measure("convert_again", "function converted again, 100 times, equations",
            sizes=(1, 100), quick_sizes=(100,), **_AGAIN),
    Measure("matrix_gradient", "gradient in y0, captured n x n matrix, n",
            ("hand", "stock", "ours"), "matrix", must=1.2, aim=1,
            sizes=(64, 256, 1024), quick_sizes=(256,)),
    Measure("convert_fresh", "closure_convert, equations",
            sizes=(1, 10, 100, 1000, 10_000), **_CONVERT),
    Measure("convert_captures", "closure_convert, captured tracers",
            sizes=(1, 100, 10_000), **_CONVERT),
    Measure("convert_numpy", "closure_convert, NumPy array, MB",
            ("stock", "ours"), "convert", must=.025, aim=.015, sizes=(64,),
            quick_sizes=(64,), in_seconds=True),
    Measure("make_key", "key of a program, equations", must=.15, aim=.06,
            **_KEY),
    Measure("compare", "hash and comparison, equations", must=.002, aim=0,
            **_KEY),
    Measure("nested_jit", "nested jit, to convert, hash and compare, depth",
            ("stock", "ours"), "key", must=.05, aim=.02, sizes=(16,),
            quick_sizes=(16,), in_seconds=True),
)

IN_SECONDS = {m.name for m in MEASURES if m.in_seconds}


@dataclasses.dataclass(frozen=True)
class Memory:
  """A measure of the memory that `count` closures retain."""
  name: str
  title: str
  must: float | None = 0  # bytes of live arrays, tracers, and functions
  # Stock JAX keeps the arrays, so it gets fewer closures, and the result is
  # scaled up to 1,000.
  counts: tuple[tuple[str, int], ...] = (("stock", 30), ("ours", 1000))
  quick_counts: tuple[tuple[str, int], ...] = (("stock", 6), ("ours", 20))


MEMORY = (
    Memory("memory_odeint", "retained, odeint"),
    Memory("memory_gradient", "retained, gradient of a custom_vjp"),
    Memory("memory_pytree", "retained, closure as a pytree"),
    # Each compiles another solver, and jit's cache holds its static arguments.
    Memory("memory_static", "retained, static argument", must=None,
           counts=(("stock", 30), ("ours", 60))),
)

# What is counted: name, unit, in words.
RETAINED = (("live", "B", "arrays"), ("rss", "B", "process"),
            ("tracers", "", "tracers"),
            ("functions", "", "functions, caches cleared"))


def worker_of(way: str) -> str:
  """The process that measures a way."""
  # The base must not slow down by what stock JAX leaves behind, and stock JAX
  # is measured where the peers are not imported.
  if way in ("limit", "hand", "trace"):
    return "hand"
  return "peers" if way in PEERS else way
