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

"""Runs every closure under every stack of transformations, side by side.

The cases are those of tests/closures/composition_test.py. Each is compared with
differentiating straight through the solver. Each side has another function as
`jax.closure_convert`, and runs in its own process.

  python docs/composition.py              # all, about twenty minutes
  python docs/composition.py grad jvp     # only these stacks
  python docs/composition.py --sides stock,equinox --out FILE

The side `equinox` needs Equinox. The side `traced` needs jax 0.12: it is the
method `closure_convert` of what `jax.jit(f).trace(x)` returns.
"""

import argparse
import csv
import functools
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent.resolve()
RIGHT, LEAKED, WRONG = "right", "leaked tracer", "wrong number"


# Ways of closure conversion, each in the form of `jax.closure_convert`.

def equinox_convert(fun, *args):
  import equinox as eqx
  import jax
  converted = eqx.filter_closure_convert(fun, *args)
  arrays, rest = eqx.partition(converted, eqx.is_array)
  leaves, tree = jax.tree.flatten(arrays)
  def fun_of_leaves(*args):
    args, leaves = args[:len(args) - tree.num_leaves], args[-tree.num_leaves:]
    return eqx.combine(jax.tree.unflatten(tree, leaves), rest)(*args)
  return fun_of_leaves if leaves else converted, leaves

def traced_convert(fun, *args):
  import jax
  # `jit` of `fun` itself would reuse the tracers of an earlier trace.
  consts, converted = jax.jit(lambda *args: fun(*args)).trace(
      *args).closure_convert()
  n = len(args)
  return lambda *args: converted(list(args[n:]), *args[:n]), consts

SIDES = {"stock": None, "patched": None, "equinox": equinox_convert,
         "traced": traced_convert}


def outcomes(side, names):
  """Yields (jax, way, stack, kind, outcome) for one side, in this process."""
  os.environ.update(JAX_PLATFORMS="cpu")
  if side == "patched":
    import jax_patch
    jax_patch.apply()
  sys.path.insert(0, str(HERE.parent / "tests" / "closures"))
  import jax
  import capture_kinds as cases
  import transformation_stacks as stacks
  from jax._src import test_util as jtu
  import numpy as np

  jtu.request_cpu_devices(stacks.NUM_DEVICES)
  # Compiling takes most of the time, and the programs are small.
  jax.config.update("jax_disable_most_optimizations", True)
  if SIDES[side]:
    jax.closure_convert = SIDES[side]

  @functools.cache
  def expected(stack, kind):
    return stacks.evaluate(stack, kind, cases.root_straight_through)

  def outcome(stack, kind, way):
    try:
      actual = stacks.evaluate(stack, kind, cases.WAYS[way])
      jax.tree.map(lambda x, y: np.testing.assert_allclose(
          *(np.asarray(z).astype("complex128") for z in (x, y)),
          **cases.tolerance()), actual, expected(stack, kind))
    except AssertionError:
      return WRONG
    except Exception as error:
      # The messages of lowering, where a tracer is a constant, and of
      # `jax.checking_leaks`.
      signs = "No constant handler", "Leaked "
      leaked = (isinstance(error, jax.errors.UnexpectedTracerError) or
                any(sign in str(error) for sign in signs))
      return LEAKED if leaked else type(error).__name__
    return RIGHT

  for name, stack in stacks.STACKS.items():
    for kind in cases.KINDS if not names or name in names else ():
      for way in cases.WAYS:
        if stacks.has_derivatives(stack, way):
          yield jax.__version__, way, name, kind, outcome(stack, kind, way)


def run(sides, names):
  """Returns a list of rows, one an entry, with the outcome on each side."""
  rows = {}
  for side in sides:
    found = subprocess.run(
        [sys.executable, __file__, "--this-process", "--sides", side, *names],
        check=True, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    for *entry, outcome in csv.reader(found.stdout.splitlines()):
      row = dict(zip(("jax", "way", "stack", "kind"), entry))
      rows.setdefault(tuple(entry), row)[side] = outcome
  return list(rows.values())


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("names", nargs="*", help="stacks; all of them if none")
  parser.add_argument("--sides", type=lambda sides: sides.split(","),
                      default=["stock", "patched"])
  parser.add_argument("--out", default=HERE / "composition.csv")
  parser.add_argument("--this-process", action="store_true",
                      help="print the outcomes of one side")
  args = parser.parse_args()
  if args.this_process:
    csv.writer(sys.stdout).writerows(outcomes(args.sides[0], args.names))
    return
  rows = run(args.sides, args.names)
  with open(args.out, "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
  for side in args.sides:
    failed = sum(row[side] != RIGHT for row in rows)
    print(f"{side}: {failed} of {len(rows)} fail")


if __name__ == "__main__":
  main()
