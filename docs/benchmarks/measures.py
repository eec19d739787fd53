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

"""Which measures there are, what each compares, and what must hold.

A measure names a case, a function of `cases` or its siblings, and the ways that
it is measured. All are divided by the first of them, the base.
"""

import dataclasses

PEERS = ("equinox", "diffrax", "jax.stages")


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
  must_sizes: tuple[int, ...] | None = None  # all sizes
  bases: dict[str, str] = dataclasses.field(default_factory=dict)
  quick: bool = True  # whether it is measured then, too

  @property
  def quick_ways(self) -> tuple[str, ...]:
    return tuple(w for w in self.ways if not w.startswith("diffrax"))

  @property
  def base(self) -> str:
    return self.ways[0]

  def base_of(self, way: str) -> str:
    return self.bases.get(way, self.base)

  def must_of(self, size: int | None) -> float | None:
    if self.must_sizes is None or size in self.must_sizes:
      return self.must
    return None


# A solver of another library has another limit: that library's own.
_FRESH = dict(
    ways=("limit", "stock", "ours", "equinox", "diffrax limit", "diffrax"),
    bases={"diffrax": "diffrax limit"})
_FRESH_MLP = dict(ways=("limit", "stock", "ours", "equinox"))
_AGAINST_STOCK = ("stock", "ours", "control")
_SIZES = dict(sizes=(1, 10, 100, 1000, 10_000), quick_sizes=(100,))

MEASURES = (
    Measure("fresh_forward", "fresh closure, odeint forward",
            group="fresh", must=3, aim=1.2, **_FRESH),
    Measure("fresh_gradient", "fresh closure, odeint gradient",
            group="fresh", must=1.3, aim=1.05, **_FRESH),
    Measure("fresh_mlp_forward", "fresh MLP closure, odeint forward",
            group="fresh", must=3, aim=1.2, **_FRESH_MLP),
    Measure("fresh_mlp_gradient", "fresh MLP closure, odeint gradient",
            group="fresh", must=3, aim=1.2, quick=False, **_FRESH_MLP),
    Measure("fresh_python_float", "fresh closure over a Python float",
            ("limit", "stock", "ours"), "fresh", quick=False),
    Measure("stable_forward", "stable function, odeint forward",
            _AGAINST_STOCK, "stable", must=1.05, aim=1),
    Measure("stable_gradient", "stable function, odeint gradient",
            _AGAINST_STOCK, "stable", must=1.05, aim=1),
    Measure("stable_mlp_gradient", "stable MLP, odeint gradient",
            _AGAINST_STOCK, "stable", must=1.05, aim=1, quick=False),
    Measure("matrix_gradient", "gradient in y0, captured n x n",
            ("limit", "stock", "ours"), "matrix", must=1.2, aim=1,
            sizes=(64, 256, 512, 1024), quick_sizes=(256,),
            must_sizes=(256,)),
    Measure("lower_forward", "odeint of 500 equations, lowering",
            ("limit", "stock", "ours"), "lower"),
    Measure("lower_gradient", "gradient of the same, lowering",
            ("limit", "stock", "ours"), "lower", quick=False),
    Measure("solver_pytree_forward", "closure through jit, forward",
            ("limit", "stock", "ours", "equinox", "jax.stages"), "solver"),
    Measure("solver_pytree_gradient", "closure through jit, gradient",
            ("limit", "stock", "ours", "equinox", "jax.stages"), "solver"),
    Measure("solver_static_gradient", "static converted function, gradient",
            ("limit", "stock", "ours"), "solver"),
    Measure("convert_equations", "conversion, equations",
            _AGAINST_STOCK + ("equinox", "jax.stages"), "convert",
            must=1.15, aim=1, **_SIZES),
    Measure("convert_pytree", "closure_to_pytree, equations",
            ("stock", "ours", "equinox"), "convert", **_SIZES),
    Measure("convert_traced", "conversion, traced captures",
            _AGAINST_STOCK + ("equinox", "jax.stages"), "convert",
            must=1.15, aim=1, **_SIZES),
    Measure("convert_collecting", "the same with the collector on",
            _AGAINST_STOCK, "convert", sizes=(10_000,), quick=False),
    Measure("convert_concrete", "conversion, concrete captures",
            _AGAINST_STOCK + ("equinox", "jax.stages"), "convert",
            must=1.15, aim=1, **_SIZES),
    Measure("convert_and_compare", "conversion, hash and comparison",
            ("stock", "ours"), "convert", **_SIZES),
    Measure("eager_call", "eager call of the converted function",
            _AGAINST_STOCK, "convert", sizes=(1, 10, 100, 1000),
            quick_sizes=(100,)),
)


@dataclasses.dataclass(frozen=True)
class Memory:
  """What is retained after `count` closures, in bytes of live arrays."""
  name: str
  title: str
  must: float | None = 0
  # Stock keeps what it is given: fewer closures, to be scaled up to 1,000.
  counts: tuple[tuple[str, int], ...] = (("stock", 30), ("ours", 1000))
  quick_counts: tuple[tuple[str, int], ...] = (("stock", 6), ("ours", 20))


MEMORY = (
    Memory("memory_odeint", "retained, odeint"),
    Memory("memory_traced", "retained, custom_vjp, traced captures"),
    # Each compiles another solver.
    Memory("memory_concrete", "retained, custom_vjp, concrete captures",
           counts=(("stock", 30), ("ours", 60))),
    Memory("memory_static", "retained, static argument, concrete captures",
           must=None, counts=(("stock", 30), ("ours", 60))),
    Memory("memory_pytree", "retained, closure as a value, concrete captures"),
)


def worker_of(way: str) -> str:
  """Which process measures a way; the others are stock JAX."""
  # What stock leaves behind must not slow the limit down, and what peers import
  # must not be there when stock is measured.
  if way in ("limit", "ours", "control"):
    return way
  if way.startswith(("equinox", "diffrax", "jax.stages")):
    return "peers"
  return "stock"
