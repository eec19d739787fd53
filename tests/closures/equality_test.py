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

"""Which converted closures compare equal, and which must not.

Programs of one step are all compared, and pairs of random programs that differ
in one place. A program is ``(signature, result, steps)``: indices into
``SIGNATURES`` and ``RESULTS``, and a tuple of steps ``(family, variant,
bodies)``, whose bodies are tuples of steps. RANDOM_PROGRAMS is the number of
pairs. It is 2000 with JAX_PATCH_ALL_TESTS=1, as CI sets it, and 150 without. A
failure is the same in each run, and is shrunk.
"""

import collections
import os
import types

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree

from program_steps import (
    COMBINATORS, NUMBERS, over, Pair, STEPS, TRANSFORMED, TRANSFORMING,
    UNSTABLE)

jax.config.parse_flags_with_absl()

NUM_PAIRS = int(os.environ.get("RANDOM_PROGRAMS", (
    2000 if os.environ.get("JAX_PATCH_ALL_TESTS") else 150)))


VARIANTS = STEPS | COMBINATORS


def _typed(shape=(3, 3), dtype='float32', **kwargs):
  return jax.ShapeDtypeStruct(shape, dtype, **kwargs)

# Examples of positional and keyword arguments, whose first two leaves are used.
_x = _typed()
SIGNATURES = [
    ([_x, _x], {}), ([(_x, _x)], {}), ([[_x, _x]], {}), ([Pair(_x, _x)], {}),
    ([dict(x=_x, y=_x)], {}), ([dict(a=_x, y=_x)], {}), ([_x, None, _x], {}),
    ([_x, (_x,)], {}), ([_x], dict(z=_x)), ([_x], dict(zz=_x)), *[
        ([_x, _x, x], {}) for x in (
            _x, _typed(dtype='int32'), _typed(dtype='uint32'), _typed((3, 1)),
            _typed((1, 3)), _typed(weak_type=True), 1., 1, True, {1: _x},
            {True: _x}, (), [])]]

RESULTS = over(
    lambda x, e, f: f(x, e.y), lambda x, y: x, lambda x, y: (x,),
    lambda x, y: [x], lambda x, y: (x, y), lambda x, y: (y, x),
    lambda x, y: (x, x), lambda x, y: (x, None), lambda x, y: (x, ()),
    lambda x, y: ((x,), y), lambda x, y: Pair(x, y),
    lambda x, y: collections.OrderedDict(a=x)) + over(
        lambda x, e, v: (x, v), *NUMBERS) + over(
            lambda x, e, v: {v: x}, 0., -0., 0, False, 1, True, 'a', 'b')


def build(program, arrays):
  """Returns a new Python function that shares none with any other."""
  _, result, steps = program
  def fun(*args, **kwargs):
    x, y = jax.tree.leaves((args, kwargs))[:2]
    c, d, i, key = arrays
    e = types.SimpleNamespace(y=y, c=c, d=d, i=i, key=key)
    # The use of every captured value, in this order, tells one from the other.
    x = (x + c) * d - i[:, None].astype('float32')
    x = x * jax.random.uniform(key, (), 'float32')
    return RESULTS[result](_run(steps, x, e), e)
  return fun

def _run(steps, x, e):
  for family, variant, bodies in steps:
    # Lambdas, for a name that is the same whatever they do.
    x = VARIANTS[family][variant](
        x, e, *[lambda x, body=body: _run(body, x, e) for body in bodies])
  return x

def convert(program, to_pytree=False, seed=0):
  """Returns a value that compares equal if two converted functions do."""
  args, kwargs = SIGNATURES[program[0]]
  rng = np.random.RandomState(seed)
  arrays = (*jnp.asarray(rng.rand(2, 3, 3), 'float32'),
            jnp.asarray(rng.permutation(3), 'int32'), jax.random.key(seed))
  if to_pytree:
    leaves, tree = jax.tree.flatten(
        closure_to_pytree(build(program, arrays), *args, **kwargs))
    return tree, *[(x.dtype, x.shape, np.asarray(
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else x).tobytes()) for x in leaves]
  out = []
  def trace(*arrays):  # They are tracers, and thus hoisted.
    out.append(jax.closure_convert(build(program, arrays), *args, **kwargs)[0])
    return 0
  jax.eval_shape(trace, *arrays)
  return out[0]

def is_stable(steps):
  return all(family not in UNSTABLE and all(map(is_stable, bodies))
             for family, _, bodies in steps)

def num_bodies(family):
  return (family in COMBINATORS) + (family in ('cond', 'switch'))

@st.composite
def random_steps(draw, depth=0, transformed=False):
  steps = []
  for _ in range(draw(st.integers(1, 3 - depth))):
    nests = depth < 2 and not transformed and draw(st.booleans())
    family = draw(st.sampled_from(
        list(COMBINATORS) if nests else TRANSFORMED if transformed else
        [f for f in STEPS if depth == 0 or f != 'effect']))
    body = random_steps(depth + 1, transformed or family in TRANSFORMING)
    variant = draw(st.integers(0, len(VARIANTS[family]) - 1))
    steps.append((family, variant, tuple(
        draw(body) for _ in range(num_bodies(family)))))
  return tuple(steps)

def changed(steps):
  """Yields all tuples of steps that differ from these in one place."""
  for i, (family, variant, bodies) in enumerate(steps):
    def put(*new, n=1):
      return *steps[:i], *new, *steps[i + n:]
    for other in {*range(len(VARIANTS[family]))} - {variant}:
      yield put((family, other, bodies))
    for j, body in enumerate(bodies):
      for b in changed(body):
        yield put((family, variant, (*bodies[:j], b, *bodies[j + 1:])))
    if bodies != bodies[::-1]:
      yield put((family, variant, bodies[::-1]))
    if i + 1 < len(steps) and steps[i] != steps[i + 1]:
      yield put(steps[i + 1], steps[i], n=2)
    if len(steps) > 1:
      yield put()

@st.composite
def random_pairs(draw):
  """Draws two programs that differ in one place."""
  index = lambda table: st.one_of(st.just(0), st.integers(0, len(table) - 1))
  p = draw(index(SIGNATURES)), draw(index(RESULTS)), draw(random_steps())
  place = draw(st.sampled_from([2, 2, 2, 2, 0, 1]))
  others = [*changed(p[2])] if place == 2 else [
      i for i in range(len((SIGNATURES, RESULTS)[place])) if i != p[place]]
  return p, (*p[:place], draw(st.sampled_from(others)), *p[place + 1:])

def one_step_programs():
  body = ('unary', 0, ()),
  programs = [(0, 0, ((family, i, (body, (('unary', 1, ()),))[:num_bodies(
      family)]),)) for family in VARIANTS for i in range(len(VARIANTS[family]))]
  programs += [(i, 0, body) for i in range(1, len(SIGNATURES))]
  return programs + [(0, i, body) for i in range(1, len(RESULTS))]


@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_numpy_rank_promotion="allow")
class EqualityTest(jtu.JaxTestCase):

  def check_fresh(self, p, to_pytree=False):
    # A concrete array that a nested jit captures is not hoisted, and enters the
    # key by its identity.
    is_nested = any(bodies for _, _, bodies in p[2])
    if is_stable(p[2]) and not (to_pytree and is_nested):
      f, g = (convert(p, to_pytree, seed) for seed in (0, 1))
      if to_pytree:
        (f, *_), (g, *_) = f, g
      self.assertEqual((f, hash(f)), (g, hash(g)), p)

  def check_all_differ(self, programs):
    program_of = {}
    for p in programs:
      self.assertIs(program_of.setdefault(convert(p), p), p)
      self.check_fresh(p)
      self.check_fresh(p, to_pytree=True)

  def test_every_two_variants_differ(self):
    self.check_all_differ(one_step_programs())

  # These are to be JAX's defaults.
  @parameterized.parameters(
      "jax_use_simplified_jaxpr_constants", "jax_custom_jvp3",
      "jax_custom_vjp3")
  def test_other_defaults(self, flag):
    if not hasattr(jax.config, flag):
      self.skipTest("this JAX lacks the flag")
    with jtu.global_config_context(**{flag: True}):
      self.check_all_differ([
          p for p in one_step_programs() if any(
              family in ("constant", "captured", "rule", "nondiff", "primal",
                         "called")
              for family, _, _ in p[2])])

  @hypothesis.settings(
      derandomize=True, deadline=None, max_examples=NUM_PAIRS,
      suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(random_pairs(), st.booleans())
  def test_pair(self, pair, to_pytree):
    p, q = pair
    self.assertNotEqual(convert(p, to_pytree), convert(q, to_pytree))
    self.check_fresh(p, to_pytree)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
