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

"""Random programs as data, and the Python functions that they describe.

A program is ``(arguments, results, steps)``: indices into ``ARGUMENTS`` and
``RESULTS``, and a tuple of steps. A step is ``(family, variant, bodies)``,
where ``bodies`` are tuples of steps in turn. Every step maps a 3 x 3 matrix to
one of the same type, so that a difference between programs shows in types only
if it is meant to.
"""

import collections
import dataclasses
import functools
import types

import numpy as np

import jax
import jax.numpy as jnp

from rule_captures import double, F32
from program_steps import (
    bits, COMBINATORS, FAMILIES, over, TRANSFORMED, TRANSFORMING, UNSTABLE)


def captured(seed=0):
  """Returns arrays for a program to capture, of types that never change."""
  rng = np.random.RandomState(seed)
  c, d = (jnp.asarray(rng.rand(3, 3), 'float32') for _ in range(2))
  i = jnp.asarray(rng.randint(3, size=3), 'int32')
  return c, d, i, jax.random.key(seed)


# Arguments and results.

@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
  value: float

class Wide(collections.namedtuple('Wide', 'x y')):
  pass

def _typed(shape=(3, 3), dtype='float32', **kwargs):
  return jax.ShapeDtypeStruct(shape, dtype, **kwargs)

# Positional and keyword arguments, of which the first two leaves are used.
ARGUMENTS = [
    (args, kwargs) for kwargs in ({}, dict(z=_typed()), dict(zz=_typed()),
                                  dict(z=_typed((2,))), dict(z=2.))
    for args in ([_typed(), _typed()], [(_typed(), _typed())],
                 [[_typed(), _typed()]], [dict(x=_typed(), y=_typed())],
                 [dict(a=_typed(), y=_typed())], [_typed(), None, _typed()],
                 [Wide(_typed(), _typed())], [_typed(), (_typed(),)])
] + [([_typed(), _typed(), x], {}) for x in (
    _typed(), _typed(dtype='int32'), _typed(dtype='uint32'), _typed((3, 1)),
    _typed(weak_type=True), _typed((1, 3)), 1., 1, True, Static(0), Static(1))]

RESULTS = over(
    lambda x, e, v: v(x, e.y),
    lambda x, y: x, lambda x, y: (x,), lambda x, y: [x], lambda x, y: (x, y),
    lambda x, y: (y, x), lambda x, y: (x, x), lambda x, y: (x, None),
    lambda x, y: {'a': x}, lambda x, y: {'b': x}, lambda x, y: {1: x},
    lambda x, y: {True: x}, lambda x, y: {0.: x}, lambda x, y: {-0.: x},
    lambda x, y: (x, ()), lambda x, y: (x, []), lambda x, y: ((x,), y),
    lambda x, y: Wide(x, y), lambda x, y: collections.OrderedDict(a=x),
    *[functools.partial(lambda v, x, y: (x, v), v) for v in (
        1, True, 1., 0, 0., -0., False, 1j, F32(1), np.int32(1), bits(1),
        bits(0x7fc00000), bits(0x7fc00001), double(0x7ff8000000000000),
        np.uint8(1), np.ones((), 'float16'), Static(0), Static(0.),
        Static(-0.), Static(False))])


# Programs.

def build(program, arrays):
  """Returns a new Python function that shares none with any other."""
  arguments, results, steps = program
  def fun(*args, **kwargs):
    x, y = jax.tree.leaves((args, kwargs))[:2]
    c, d, i, key = arrays
    e = types.SimpleNamespace(y=y, c=c, d=d, i=i, key=key)
    # The use of every captured value, in this order, tells one from the other.
    x = (x + c) * d - i[:, None].astype('float32')
    x = x * jax.random.uniform(key, (), 'float32')
    return RESULTS[results](_run(steps, x, e), e)
  return fun

def _run(steps, x, e):
  for family, variant, bodies in steps:
    table = COMBINATORS if bodies else FAMILIES
    funs = [functools.partial(lambda body, x: _run(body, x, e), body)
            for body in bodies]
    # A lambda, for a name that is the same whatever it does.
    x = table[family][variant](x, e, *[lambda x, f=f: f(x) for f in funs])
  return x

def is_stable(steps):
  return all(family not in UNSTABLE and all(map(is_stable, bodies))
             for family, _, bodies in steps)

def random_program(rng):
  arguments = rng.randrange(len(ARGUMENTS)) if rng.random() < .2 else 0
  results = rng.randrange(len(RESULTS)) if rng.random() < .2 else 0
  return arguments, results, _random_steps(rng, 0)

def _random_steps(rng, depth, transformed=False):
  return tuple(_random_step(rng, depth, transformed)
               for _ in range(rng.randint(1, 3 - depth)))

def _random_step(rng, depth, transformed=False):
  if depth < 2 and not transformed and rng.random() < .5:
    family = rng.choice(list(COMBINATORS))
    num_bodies = 2 if family in ('cond', 'switch') else 1
    bodies = tuple(
        _random_steps(rng, depth + 1,
                      transformed or family in TRANSFORMING)
        for _ in range(num_bodies))
    return family, rng.randrange(len(COMBINATORS[family])), bodies
  family = rng.choice(TRANSFORMED if transformed else [
      f for f in FAMILIES if depth == 0 or f != 'effect'])
  return family, rng.randrange(len(FAMILIES[family])), ()

def mutate(rng, program):
  """Returns a program that differs in one place."""
  arguments, results, steps = program
  place = rng.randrange(10)
  if place == 0:
    return _other(rng, len(ARGUMENTS), arguments), results, steps
  if place == 1:
    return arguments, _other(rng, len(RESULTS), results), steps
  return arguments, results, _mutate_steps(rng, steps, 0)

def _other(rng, n, i):
  return (i + rng.randrange(1, n)) % n

def _mutate_steps(rng, steps, depth, transformed=False):
  at = rng.randrange(len(steps))
  family, variant, bodies = steps[at]
  before, after = steps[:at], steps[at + 1:]
  kind = rng.random()
  if bodies and kind < .6:
    which = rng.randrange(len(bodies))
    body = _mutate_steps(rng, bodies[which], depth + 1,
                         transformed or family in TRANSFORMING)
    bodies = bodies[:which] + (body,) + bodies[which + 1:]
    return *before, (family, variant, bodies), *after
  table = COMBINATORS if bodies else FAMILIES
  if kind < .8 and len(table[family]) > 1:
    other = family, _other(rng, len(table[family]), variant), bodies
    return *before, other, *after
  if kind < .85 and len(bodies) == 2 and bodies[0] != bodies[1]:
    return *before, (family, variant, bodies[::-1]), *after
  if kind < .9 and after and after[0] != steps[at]:
    return *before, after[0], steps[at], *after[1:]
  if kind < .95 and before + after:
    return before + after
  return *before, _random_step(rng, depth, transformed), *steps[at:]
