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

"""A converted closure returns what the closure returns, whatever ran before.

Two laws: a closure is always traced, as JAX traces it; and the result of a call
does not depend on earlier calls. The reference is the closure itself, called.
"""

from concurrent import futures
import functools
import json
import os
import pathlib
import subprocess
import sys
import types

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

import values_and_rules as cases

jax.config.parse_flags_with_absl()

_HERE = pathlib.Path(__file__).parent
T = np.array([0., 1.])

def solve(f, y0=1.):
  return float(odeint(f, y0, jnp.array(T))[-1])

@functools.partial(jax.jit, static_argnums=0)
def call_static(f, *args):
  return f(*args)

@functools.partial(jax.jit, static_argnums=0)
def grad_static(f, *args):
  return jax.grad(f)(*args)

@jax.jit
def call_tree(f, *args):
  return f(*args)

@jax.jit
def grad_tree(f, *args):
  return jax.grad(lambda x: f(x))(*args)

def as_static(f, call=call_static):
  converted, aux = jax.closure_convert(f, 2.)
  return float(call(converted, 2., *aux))

def as_tree(f, call=call_tree):
  return float(call(jax.custom_derivatives.closure_to_pytree(f, 2.), 2.))

def python(command):
  return subprocess.Popen(
      [sys.executable, *command], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True,
      env={**os.environ, "JAX_PLATFORMS": "cpu",
           "PYTHONPATH": os.pathsep.join([str(_HERE), *sys.path])})


# What a user has who sets nothing.
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_numpy_rank_promotion="allow",
                 jax_legacy_prng_key="allow", jax_enable_checks=False)
class SoundnessTestCase(jtu.JaxTestCase):
  pass


class ValuesTest(SoundnessTestCase):

  @parameterized.named_parameters((n, n) for n in cases.VALUES)
  def test_value(self, name):
    make, values = cases.VALUES[name]
    for value in values:
      expected = float(make(value)(2.))
      for call in as_static, as_tree:
        self.assertAllClose(call(make(value)), expected, rtol=1e-5)

  def test_solutions(self):
    m = np.array([1.99e30, 5.97e24])
    make = lambda d: lambda y, t: -y * (d - 2459000.)
    b, n, jd = np.array(2.), np.array([3 * 2 ** 32]), np.float64(2460000.1)
    self.assertAllClose(
        [solve(f) for f in (
            lambda y, t: -y * (m[0] * m[1] / m.sum() / 5.97e24),
            lambda y, t: -(n[0] // 2 ** 32) * y,
            lambda y, t: -y * (jd - 2460000.),
            make(2459000.1), make(2459000.2), make(2459000.3),
            lambda y, t: -(1. if isinstance(b, np.ndarray) else 3.) * y)],
        np.exp([-1., -3., -.1, -.1, -.2, -.3, -1.]).tolist(), rtol=1e-4)

  def test_errors(self):
    table = np.array([1., 2.])
    with self.assertRaises(IndexError):
      solve(lambda y, t: -table[5] * y)
    for k in 1., 2.:
      solve(lambda y, t: -y * (1. / k))
    k = 0.
    with self.assertRaises(ZeroDivisionError):
      solve(lambda y, t: -y * (1. / k))

  def test_side_effects(self):
    log, c = [], jnp.array(1.)
    for _ in range(3):
      solve(lambda y, t: (log.append(t), -c * y)[1])
      jax.closure_convert(lambda y: (log.append(y), c * y)[1], 1.)
      jax.custom_derivatives.closure_to_pytree(
          lambda y: (log.append(y), c * y)[1], 1.)
    self.assertLen(log, 9)

  @parameterized.parameters(as_static, as_tree)
  def test_attributes_that_change(self, call):
    owner = types.SimpleNamespace(k=1.)
    for k in 1., 2., 3., 1.:
      cases.module.k = owner.k = k
      self.assertEqual(call(lambda x: x * cases.module.k * owner.k), 2. * k * k)

  @parameterized.product(call=[as_static, as_tree], size=[2, 9999],
                         nested=["none", "jit", "scan"])
  def test_array_changed_in_place(self, call, size, nested):
    # Of another dtype, JAX itself remembers what it made of the array.
    array = np.ones(size, jnp.result_type(float))
    wrap = dict(
        none=lambda f: f, jit=lambda f: jax.jit(f),
        scan=lambda f: lambda x: lax.scan(
            lambda c, _: (f(c), None), x, None, length=1)[0])[nested]
    for k in 1., 2., 3., 1.:
      array[-1] = k
      f = wrap(lambda x: x * jnp.asarray(array)[-1])
      self.assertEqual(call(f), 2. * k)


class RulesTest(SoundnessTestCase):

  @parameterized.product(state=list(cases.STATES), shared=[True, False],
                         rule=[cases.with_jvp, cases.with_vjp])
  def test_state_that_changes(self, state, shared, rule):
    # JAX traces a rule once and takes it for pure, as `jit` does a function. A
    # rule that is made anew for each closure is another function.
    get, change = cases.STATES[state]()
    f = rule(get)
    for k in 1., 5., 3., 1.:
      change(k)
      if not shared:
        f = rule(lambda: get())
      for call, grad in (as_static, grad_static), (as_tree, grad_tree):
        self.assertEqual(call(lambda x: f(x), grad), 1. if shared else k)

  def test_variable_that_is_not_set(self):
    def make():
      f = cases.with_jvp(lambda: 1. if f else later)
      converted = jax.closure_convert(lambda x: f(x), 1.)
      later = 2.
      return converted
    self.assertEqual(make()[0](1.), 1.)

  def test_globals_without_a_name(self):
    variables = {}
    exec("get = lambda: 3.", variables)
    f = cases.with_jvp(variables["get"])
    self.assertEqual(as_static(lambda x: f(x), grad_static), 3.)

  @parameterized.named_parameters((n, n) for n in cases.ODD_VALUES)
  def test_odd_value(self, name):
    value = cases.ODD_VALUES[name]()
    f = cases.with_jvp(lambda: 1. if value is None else 3.)
    for call, grad in (as_static, grad_static), (as_tree, grad_tree):
      self.assertEqual(call(lambda x: f(x), grad), 3.)


def _closures(k):
  # Fresh ones that capture the same kinds of values.
  array, integer = jnp.full(3, k), jnp.arange(3)
  def rate(x):
    return jax.nn.softplus(x) * array
  return [
      lambda x: rate(x).sum() + integer[0],
      lambda x: jax.jit(lambda x: x * np.float32(2.))(x).sum() * k,
      lambda x: lax.scan(lambda c, a: (c * a, None), x, array)[0].sum(),
      lambda x: jax.nn.silu(x * array).sum() + (3 if integer is None else 4)]

def describe():
  x = jnp.ones(3)
  texts = []
  for f in _closures(2.):
    tree = jax.custom_derivatives.closure_to_pytree(f, x)
    converted, _ = jax.closure_convert(f, x)
    texts += [
        str(jax.tree.map(jnp.shape, tree).args),
        str(jax.make_jaxpr(lambda f: f(x))(tree)),
        call_tree.lower(tree, x).as_text(),
        str(jax.make_jaxpr(converted)(x)),
        call_static.lower(converted, x).as_text()]
  lowered = jax.jit(lambda y: odeint(
      lambda y, t: -2. * jnp.sin(y), y, jnp.array(T))).lower(1.)
  return [*texts, lowered.as_text()]


class CallbacksTest(SoundnessTestCase):

  @parameterized.parameters(np.multiply, jnp.multiply)
  def test_array_changed_after_the_conversion(self, multiply):
    # Unlike a rule, a callback sees what the array is when it is called.
    arrays = [np.full(2, 2., 'float32') for _ in range(2)]
    x = jnp.ones(2, 'float32')
    for a in arrays:
      f = functools.partial(multiply, a)
      converted, _ = jax.closure_convert(
          lambda x: jax.pure_callback(f, x, x), x)
      self.assertAllClose(call_static(converted, x), 2. * x)
      a[0] = 9.


class HistoryTest(SoundnessTestCase):

  def test_after_other_calls_and_in_a_fresh_process(self):
    process = python(["-m", "jax_patch", "-c",
                      "import earlier_calls_test as t, json; "
                      "print(json.dumps(t.describe()))"])
    before = describe()
    for k in range(25):
      for f in _closures(float(k % 3)):
        tree = jax.custom_derivatives.closure_to_pytree(f, jnp.ones(3))
        converted, _ = jax.closure_convert(f, jnp.ones(3))
        self.assertEqual(converted, converted)
        hash((converted, jax.tree.structure(tree)))
        if k < 5:
          call_tree(tree, jnp.ones(3)), call_static(converted, jnp.ones(3))
    after = describe()
    output, errors = process.communicate(timeout=600)
    self.assertEqual(process.returncode, 0, errors)
    fresh = json.loads(output)
    self.assertEqual(before, after)
    self.assertEqual(before, fresh)

  @parameterized.parameters(True, False)
  def test_comparing_leaves_no_trace(self, flip):
    log = []
    def make(k):
      return jax.closure_convert(lambda x: (log.append(1), x * k)[1], 1.)[0]
    f, g, h = make(2.), make(2.), make(3.)
    texts = [str(jax.make_jaxpr(c)(1.)) for c in (f, g, h)]
    num_traces = len(log)
    for _ in range(3):
      for a, b in [(g, f), (h, g)] if flip else [(f, g), (g, h)]:
        self.assertEqual(a == b, {a, b} != {g, h})
        self.assertEqual(hash(a), hash(a))
      self.assertEqual([c(1.) for c in (f, g, h)], [2., 2., 3.])
      self.assertEqual(f, make(2.))
      self.assertNotEqual(f, make(3.))
    self.assertEqual(texts, [str(jax.make_jaxpr(c)(1.)) for c in (f, g, h)])
    self.assertLen(log, num_traces + 6)


class ThreadsTest(SoundnessTestCase):

  def test_equal_across_threads(self):
    def work(i):
      x = jnp.ones(3)
      out = []
      for n in range(3):
        for f in _closures(float(n % 2)):
          converted, aux = jax.closure_convert(f, x)
          tree = jax.custom_derivatives.closure_to_pytree(f, x)
          assert converted == converted and aux == []
          out.append((tree, converted, float(f(x)), float(tree(x))))
      return out
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
      with futures.ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(work, range(8))
    finally:
      sys.setswitchinterval(interval)
    for other in others:
      for (f, _, x, y), (g, _, z, w) in zip(first, other, strict=True):
        self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))
        self.assertAllClose([x, y], [z, w])
        self.assertAllClose(x, y, rtol=1e-5)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
