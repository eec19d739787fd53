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

The result of a call does not depend on earlier calls, on threads or on the
process. The reference is the closure itself, called.
"""

from concurrent import futures
import functools
import json
import math
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

@functools.partial(jax.jit, static_argnums=0)
def call_static(f, *args):
  return f(*args)

@jax.jit
def call_tree(f, *args):
  return f(*args)

# Each makes a function of a number that depends on a value which is not an
# array of JAX. The values are given beside it.
_VALUES = {
    "int64": (lambda n: lambda x: x * (n[0] // 2 ** 32), [
        np.array([n * 2 ** 32]) for n in (3, 4, 3)]),
    "float64": (lambda d: lambda x: x * (d - 2460000.), [
        np.float64(2460000.1), np.float64(2460000.2), 2460000.1]),
    "overflow": (lambda m: lambda x: x * (m[0] * m[1] / m.sum() / 5.97e24), [
        np.array([1.99e30, 5.97e24]), np.array([1.99e30, 5.98e24])]),
    "python_int": (lambda n: lambda x: x * (n % 7), [2 ** 70, 2 ** 71, 5]),
    "type": (lambda b: lambda x: x * [int, bool, float, np.ndarray].index(
        type(b)), [1, True, 1., np.array(1), 1]),
    "sign_of_zero": (lambda b: lambda x: x * math.copysign(1., b), [0., -0.]),
    "order": (lambda d: lambda x: x * next(iter(d.values())), [
        dict(a=1., b=2.), dict(b=2., a=1.)]),
    "shape": (lambda a: lambda x: x * len(a), [np.ones(1), np.ones(2)]),
}

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
        call_tree.lower(tree, x).as_text(),
        call_static.lower(converted, x).as_text()]
  lowered = jax.jit(lambda y: odeint(
      lambda y, t: -2. * jnp.sin(y), y, jnp.array([0., 1.]))).lower(1.)
  return [*texts, lowered.as_text()]


# What a user has who sets nothing.
@jtu.with_config(jax_numpy_dtype_promotion="standard",
                 jax_numpy_rank_promotion="allow", jax_enable_checks=False)
class EarlierCallsTest(jtu.JaxTestCase):

  @parameterized.parameters(*_VALUES)
  def test_value(self, name):
    make, values = _VALUES[name]
    for value in values:
      expected = float(make(value)(2.))
      converted, _ = jax.closure_convert(make(value), 2.)
      tree = jax.custom_derivatives.closure_to_pytree(make(value), 2.)
      self.assertAllClose((call_static(converted, 2.), call_tree(tree, 2.)),
                          (expected, expected), check_dtypes=False, rtol=1e-5)

  def test_after_other_calls_and_in_a_fresh_process(self):
    path = [str(pathlib.Path(__file__).parent), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-m", "jax_patch", "-c",
         "import earlier_calls_test as t, json; print(json.dumps(t.describe()))"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu",
             "PYTHONPATH": os.pathsep.join(path)})
    before = describe()
    for k in range(25):
      for f in _closures(float(k % 3)):
        tree = jax.custom_derivatives.closure_to_pytree(f, jnp.ones(3))
        converted, _ = jax.closure_convert(f, jnp.ones(3))
        if k < 5:
          call_tree(tree, jnp.ones(3)), call_static(converted, jnp.ones(3))
    after = describe()
    output, errors = process.communicate(timeout=600)
    self.assertEqual(process.returncode, 0, errors)
    self.assertEqual(before, after)
    self.assertEqual(before, json.loads(output))

  def test_equal_across_threads(self):
    def work(i):
      x = jnp.ones(3)
      out = []
      for n in range(3):
        for f in _closures(float(n % 2)):
          converted, aux = jax.closure_convert(f, x)
          tree = jax.custom_derivatives.closure_to_pytree(f, x)
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
