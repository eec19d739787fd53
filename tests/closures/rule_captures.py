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

"""Values that rules and callbacks capture, and rules that capture them."""

import collections
import dataclasses
import decimal
import functools
import struct
import types
import zlib

import numpy as np

import jax

F32 = np.float32


def double(pattern):
  return struct.unpack('<d', struct.pack('<Q', pattern))[0]


# Things that a rule or a callback may close over: `repr` tells them apart, and
# nothing else need do so.

@dataclasses.dataclass(frozen=True)
class Config:
  scale: float

class Equal:
  """Equals every other."""
  def __init__(self, scale):
    self.scale = scale
  def __eq__(self, other):
    return True
  def __hash__(self):
    return 0
  def __repr__(self):
    return f"Equal({self.scale})"
  def method(self):
    return self.scale

class Tagged(list):
  def __init__(self, tag):
    self.tag = tag
  def __repr__(self):
    return f"Tagged({self.tag})"

Pair = collections.namedtuple('Pair', 'a b')
Riap = collections.namedtuple('Riap', 'a b')

CELLS = [
    1, True, 1., -1, 0, False, 0., -0., 1j, -1j, complex(0., -0.), 1 << 70,
    double(0x7ff8000000000000), double(0xfff8000000000001), float('inf'), None,
    'a', 'b', b'a', (), [], {}, (1,), [1], (True,), (1., 0.), (1., -0.), (1, 2),
    Pair(1, 2), Riap(1, 2), {'a': 1}, {'b': 1}, {'a': 1.}, {1: 1}, {True: 1},
    frozenset([0.]), frozenset([-0.]), decimal.Decimal('1.0'),
    decimal.Decimal('1.00'), Config(0.), Config(-0.), Config(1), Config(True),
    Equal(1), Equal(2), Tagged(1), Tagged(2), slice(0, 1), slice(False, 1),
    range(3), types.SimpleNamespace(a=1), types.SimpleNamespace(a=2),
    F32(1), np.float16(1), np.int32(1), np.bool_(True), F32(0), F32(-0.),
    np.ones(2, 'float32'), np.ones((2, 1), 'float32'), np.ones(2, 'int32'),
    np.zeros(2, 'float32'), -np.zeros(2, 'float32'), np.ones(99, 'float32'),
    2 * np.ones(99, 'float32'), float, int]

def number(value):
  return F32(zlib.crc32(f"{type(value)}{value!r}".encode()))

def _twice(x, scale=1):
  return scale * x

def _thrice(x, scale=1):
  return 3 * scale * x

def _by_attribute(scale):
  def fun(x):
    return fun.scale * x
  fun.scale = scale
  return fun

def _by_default(scale):
  return lambda x, scale=scale: scale * x

def _by_keyword(scale):
  return lambda x, *, scale=scale: scale * x

def _by_method(scale):
  return lambda x, method=Equal(scale).method: method() * x

FUNCTIONS = [
    _twice, _thrice, functools.partial(_twice, scale=2.),
    functools.partial(_twice, scale=3.), functools.partial(_thrice, scale=2.),
    lambda x: 7. * x, lambda x: 8. * x, lambda x: -0. * x, lambda x: 0. * x,
    jax.jit(lambda x: 9. * x), jax.jit(lambda x: 10. * x),
    *[make(scale) for scale in (11., 12.) for make in (
        _by_attribute, _by_default, _by_keyword, _by_method)]]


# Custom rules. The primal functions are all alike.

def jvp_by(rule_value, apply=None, **options):
  f = jax.custom_jvp(lambda x: 2. * x)
  def rule(primals, tangents):
    (x,), (t,) = primals, tangents
    return 2. * x, apply(t) if apply else t * number(rule_value)
  f.defjvp(rule, **options)
  return f

def vjp_by(fwd_value, bwd_value, apply=None, **options):
  f = jax.custom_vjp(lambda x: 2. * x)
  def fwd(x):
    return 2. * x, x * number(fwd_value)
  def bwd(res, g):
    return apply(g) if apply else g * res * number(bwd_value),
  f.defvjp(fwd, bwd, **options)
  return f

@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def jvp_nondiff(n, x):
  return 2. * x

@jvp_nondiff.defjvp
def _(n, primals, tangents):
  return jvp_nondiff(n, *primals), tangents[0] * number(n)

@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def vjp_nondiff(n, x):
  return 2. * x

vjp_nondiff.defvjp(lambda n, x: (2. * x, None),
                   lambda n, res, g: (g * number(n),))

RULES = [jvp_by(2.), jvp_by(3.), jvp_by(2., symbolic_zeros=True),
         vjp_by(2., 2.), vjp_by(3., 2.), vjp_by(2., 3.),
         vjp_by(2., 2., optimize_remat=True),
         vjp_by(2., 2., symbolic_zeros=True)]
