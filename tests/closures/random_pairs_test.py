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

"""Two random programs that differ in one place never compare equal.

RANDOM_PROGRAMS is the number of pairs. It is 2000 with JAX_PATCH_ALL_TESTS=1,
as CI sets it, and 250 without.
"""

import itertools
import os
import random
import unittest

from absl.testing import absltest
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree

from program_steps import COMBINATORS, FAMILIES
import random_programs as programs

jax.config.parse_flags_with_absl()

_ALL = 2000
_CHOSEN = _ALL if os.environ.get("JAX_PATCH_ALL_TESTS") else _ALL // 8
NUM_PAIRS = int(os.environ.get("RANDOM_PROGRAMS", _CHOSEN))

# For conftest.py.
LEFT_OUT = "" if NUM_PAIRS >= _ALL else (
    f"{_ALL - NUM_PAIRS} of {_ALL} random pairs of programs, and every two "
    "variants of a step")


def convert(program):
  """Converts a program, every array that it captures being a tracer."""
  out = []
  args, kwargs = programs.ARGUMENTS[program[0]]
  def trace(*arrays):
    fun = programs.build(program, arrays)
    out.append(jax.closure_convert(fun, *args, **kwargs)[0])
    return 0
  jax.eval_shape(trace, *programs.captured())
  return out[0]

def as_pytree(program, arrays):
  args, kwargs = programs.ARGUMENTS[program[0]]
  return closure_to_pytree(programs.build(program, arrays), *args, **kwargs)

def same_pytree(f, g):
  """Whether two closures are the same, bit by bit."""
  def bits(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x = jax.random.key_data(x)
    return x.dtype, x.shape, np.asarray(x).tobytes()
  return (jax.tree.structure(f) == jax.tree.structure(g) and
          list(map(bits, jax.tree.leaves(f))) ==
          list(map(bits, jax.tree.leaves(g))))


class RandomPairsTest(jtu.JaxTestCase):

  @unittest.skipIf(NUM_PAIRS < _ALL, "left out of a plain run")
  def test_every_two_variants_differ(self):
    body = (('unary', 0, ()),), (('unary', 1, ()),)
    steps = [(family, i, ()) for family, variants in FAMILIES.items()
             for i in range(len(variants))]
    steps += [(family, i, body[:1 + (family in ('cond', 'switch'))])
              for family, variants in COMBINATORS.items()
              for i in range(len(variants))]
    todo = [(0, 0, (step,)) for step in steps]
    todo += [(i, 0, body[0]) for i in range(1, len(programs.ARGUMENTS))]
    todo += [(0, i, body[0]) for i in range(1, len(programs.RESULTS))]
    converted = [convert(p) for p in todo]
    wrong = []
    for p, f in zip(todo, converted):
      g = convert(p)
      if programs.is_stable(p[2]) and not (f == g and hash(f) == hash(g)):
        wrong.append((p, p))
    wrong += [(p, q) for (p, f), (q, g) in itertools.combinations(
        zip(todo, converted), 2) if f == g]
    self.assertEmpty(wrong)

  def test_converted(self):
    for seed in range(NUM_PAIRS):
      rng = random.Random(seed)
      p = programs.random_program(rng)
      q = programs.mutate(rng, p)
      f, g = convert(p), convert(q)
      self.assertFalse(f == g, f"{seed}: {p} {q}")
      self.assertTrue(f != g)
      if programs.is_stable(p[2]):
        f_again = convert(p)
        self.assertEqual(f, f_again, f"{seed}: {p}")
        self.assertEqual(hash(f), hash(f_again), f"{seed}: {p}")

  def test_pytrees(self):
    arrays = programs.captured()
    for seed in range(NUM_PAIRS // 8):
      rng = random.Random(-1 - seed)
      p = programs.random_program(rng)
      q = programs.mutate(rng, p)
      f, f_again, g = (as_pytree(x, arrays) for x in (p, p, q))
      self.assertFalse(same_pytree(f, g), f"{seed}: {p} {q}")
      if programs.is_stable(p[2]):
        self.assertTrue(same_pytree(f, f_again), f"{seed}: {p}")
        self.assertEqual(hash(jax.tree.structure(f)),
                         hash(jax.tree.structure(f_again)))


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
