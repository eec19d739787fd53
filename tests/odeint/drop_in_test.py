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

"""odeint accepts each call that stock JAX accepts, with the same results.

The calls run in two processes, on stock JAX and with the patch. For these, this
file is a script that writes their results to the file that it is given.
"""

import collections
import functools
import operator
import os
import pickle
import subprocess
import sys
import tempfile
import warnings

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental import sparse
from jax.experimental.ode import odeint
from jax.tree_util import Partial

jax.config.parse_flags_with_absl()

_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))
_OUTCOMES = "ODEINT_OUTCOMES"  # Where to write the results.

T = jnp.array([0., .5, 1.])
ONES = jnp.ones(2)
COARSE = dict(rtol=1e-2, atol=1e-2)
HALF = jnp.ones(2, 'float16')
F32, F64 = jnp.ones(2, 'float32'), np.ones(2)

Point = collections.namedtuple("Point", "x y")

def decay(y, t, *args):
  return -.5 * y

def forced(y, t):
  return -y * t

def scaled(y, t, a):
  return -a * y

def call(func, y0=ONES, t=T, args=(), **options):
  """Returns a function that solves, and one that returns the gradients."""
  solve = lambda *args: odeint(func, *args, **options)
  def gradient():
    out, vjp = jax.vjp(solve, y0, t, *args)
    return vjp(jax.tree.map(jnp.ones_like, out))
  return lambda: solve(y0, t, *args), gradient

CALLS = dict(
    # Half precision, and precisions mixed.
    float16=call(decay, HALF, **COARSE),
    float16_argument=call(scaled, HALF, args=(.5,), **COARSE),
    float16_beside_float32=call(
        lambda y, t: (-y[1], -y[0]), y0=(HALF, F32), **COARSE),
    float64_of_float32=call(lambda y, t: y.astype('float32') * -.5, F64),
    float32_of_float64=call(lambda y, t: -F64 * y, F32),
    float32_state_float64_time=call(
        lambda y, t: -y * t.astype(y.dtype), F32, np.array([0., .5, 1.])),
    # Complex numbers.
    complex=call(lambda y, t: -1j * y, jnp.ones(2, complex)),
    real_derivative=call(lambda y, t: -.5 * y.real, jnp.ones(2, complex)),
    python_complex=call(decay, 1j),
    # Integers and what they come with.
    python_int_leaf=call(lambda y, t: (0, -y[1]), (3, ONES)),
    int_argument=call(scaled, args=(2,)),
    key_argument=call(lambda y, t, k: -jax.random.uniform(k, dtype=y.dtype) * y,
                      args=(jax.random.key(0),)),
    # Outputs that only ravel to the state.
    column_output=call(lambda y, t: -y.reshape(4, 1), jnp.eye(2)),
    list_output=call(lambda y, t: [-y[0], y[1]]),
    array_output=call(lambda y, t: -jnp.array(y), [1., 2.]),
    nested_output=call(lambda y, t: [[-y[0]], ([-y[1]],)], (1., ONES)),
    numpy_output=call(lambda y, t: np.array([1., 2.], 'float32')),
    python_output=call(lambda y, t: [1., 2]),
    extra_none=call(lambda y, t: (-y, None)),
    # Containers.
    list_for_tuple=call(lambda y, t: [-y[0], y[1]], (1., ONES)),
    list_for_dict=call(lambda y, t: [-y["b"], y["a"]], {"a": 1., "b": 2.}),
    dict_for_ordered=call(lambda y, t: dict(a=-y["a"], b=y["b"]),
                          collections.OrderedDict(b=1., a=2.)),
    tuple_for_namedtuple=call(lambda y, t: (-y.y, y.x), Point(1., ONES[0])),
    none_leaf=call(lambda y, t: (-y[0], None), (ONES, None)),
    missing_none=call(lambda y, t: [-y[0]], (ONES, None)),
    empty_leaf=call(lambda y, t: (y[0], -y[1]), (jnp.ones(0), ONES)),
    empty_array=call(decay, jnp.ones(0)),
    # Weak types, NumPy, arguments.
    weak_state=call(decay, jnp.asarray(1.)),
    strong_derivative=call(lambda y, t: np.float32(-.5) * y, jnp.asarray(1.)),
    weak_time=call(lambda y, t: -y * jnp.isinf(HALF * (1e5 * t)),
                   t=.5 * jnp.arange(3), **COARSE),
    numpy_scalar=call(decay, np.float64(1.)),
    numpy_time=call(forced, t=np.linspace(0., 1., 5)[::2]),
    one_time=call(decay, t=T[:1]),
    python_argument=call(scaled, args=(.5,)),
    none_argument=call(lambda y, t, a: -y if a is None else y, args=(None,)),
    nested_arguments=call(
        lambda y, t, a, b, *c: -a["k"][0] * b.y * y * len(c),
        args=({"k": [1., (2,)], "z": None}, Point(1., True), (), {})),
    unused_argument=call(decay, args=(jnp.ones(3), jnp.arange(3))),
    sparse_argument=call(
        lambda y, t, a: -(a @ y), args=(sparse.BCOO.fromdense(jnp.eye(2)),)),
    function_argument=call(
        lambda y, t, f: -f(y), args=(Partial(operator.mul, 2.),)),
    # Callables.
    partial=call(functools.partial(lambda a, y, t: -a[0] * y, [2.])),
    built_in=call(operator.mul, 1.),
    callback=call(lambda y, t: jax.pure_callback(np.negative, y, y)),
    captured_matrix=call(lambda y, t: -np.eye(2, dtype='float32') @ y, F32),
    captured_bfloat16=call(lambda y, t: -ONES.astype('bfloat16') * y),
    nested_solve=call(lambda y, t: -odeint(decay, y, T)[-1]),
    # Options.
    mxstep=call(decay, mxstep=3),
    hmax=call(decay, hmax=.1),
    numpy_options=call(decay, rtol=np.float64(1e-3), atol=np.float32(1e-4),
                       hmax=np.float32(.2)),
)

# Those among them for which stock's gradient works too.
GRADIENTS = (
    "float16_beside_float32", "float32_of_float64", "float64_of_float32",
    "float32_state_float64_time", "complex", "nested_output", "list_for_dict",
    "none_leaf", "empty_leaf", "one_time", "numpy_scalar", "none_argument",
    "function_argument", "nested_solve")

# Those that also run in 64 bits.
X64 = (
    "float16", "float16_argument", "float16_beside_float32",
    "float64_of_float32", "float32_state_float64_time", "complex",
    "python_complex", "python_int_leaf", "int_argument", "numpy_output",
    "python_output", "weak_state", "strong_derivative", "numpy_scalar",
    "numpy_time", "python_argument", "captured_matrix", "numpy_options",
    "under_jit", "under_half_captured", "gradient_of_complex")

def _captured(k):
  return odeint(lambda y, t: -k * y, ONES, T)

def _captured_gradient(m, n):
  # Of a matrix, beside an integer in another function's closure.
  rate = lambda y: m @ y * n
  return jax.grad(lambda m_: odeint(
      lambda y, t: -rate(y) * m_, ONES, T)[-1].sum())(1.)

def _ref():
  ref = jax.new_ref(jnp.array(.5))
  return odeint(lambda y, t: -ref[...] * y, ONES, T)

CALLS_UNDER = dict(
    jit=lambda: jax.jit(_captured)(.5),
    vmap=lambda: jax.vmap(_captured)(T),
    vmap_state=lambda: jax.vmap(lambda y: odeint(forced, y, T))(jnp.eye(2)),
    scan=lambda: lax.scan(lambda c, k: (c, _captured(k)), 0., T)[1],
    grad=lambda: jax.grad(lambda k: _captured(k)[-1].sum())(.5),
    vmap_grad=lambda: jax.vmap(jax.grad(lambda k: _captured(k)[-1].sum()))(T),
    captured=lambda: _captured_gradient(jnp.eye(2), 2),
    half_captured=lambda: jax.jacrev(lambda k: odeint(
        lambda y, t: -k * y, ONES, T).sum())(HALF),
    ref=_ref,
)

def _outcome(call):
  try:
    leaves, tree = jax.tree.flatten(call())
  except Exception as e:
    return f"{type(e).__name__}: {e}", []
  return str(tree), [
      (str(x.dtype), x.weak_type, np.asarray(x, complex)) for x in leaves]

_ALL = {
    **{name: value for name, (value, _) in CALLS.items()},
    **{f"gradient_of_{name}": CALLS[name][1] for name in GRADIENTS},
    **{f"under_{name}": value for name, value in CALLS_UNDER.items()}}


# Compiles as little as possible.
_FLAGS = ("--xla_backend_optimization_level=0 "
          "--xla_llvm_disable_expensive_passes=true")


@functools.cache
def _outcomes(x64):
  # Runs stock JAX and the patched one at once.
  env = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _FLAGS, **os.environ,
         "JAX_ENABLE_X64": str(int(x64)),
         "PYTHONPATH": os.pathsep.join(sys.path)}
  with tempfile.TemporaryDirectory() as folder:
    runs = []
    for launcher in [], ["-m", "jax_patch"]:
      path = os.path.join(folder, f"outcomes{len(runs)}")
      runs.append((path, subprocess.Popen(
          [sys.executable, *launcher, __file__], env=env | {_OUTCOMES: path},
          text=True, stderr=subprocess.PIPE)))
    outcomes = []
    for path, process in runs:
      _, errors = process.communicate(timeout=1200)
      if process.returncode:
        raise RuntimeError(errors)
      with open(path, "rb") as f:
        outcomes.append(pickle.load(f))
  return outcomes


class DropInTest(jtu.JaxTestCase):

  @parameterized.named_parameters(
      *((n, n, False) for n in _ALL),
      *((f"{n}_x64", n, True) for n in X64 if _ALL_TESTS))
  def test(self, name, x64):
    (tree, expected), (actual_tree, actual) = [o[name] for o in _outcomes(x64)]
    self.assertNotIn("Error", tree)  # Stock takes it.
    self.assertEqual(actual_tree, tree)
    for (*aval, x), (*expected_aval, y) in zip(actual, expected, strict=True):
      self.assertEqual(aval, expected_aval)
      tol = {'float16': 1e-2, 'bfloat16': 5e-2}.get(aval[0], 1e-4)
      self.assertAllClose(x, y, rtol=tol, atol=tol)


if __name__ == "__main__":
  if _OUTCOMES not in os.environ:
    absltest.main(testLoader=jtu.JaxTestLoader())
  warnings.simplefilter("error", FutureWarning)
  with open(os.environ[_OUTCOMES], "wb") as f:
    names = X64 if jax.config.jax_enable_x64 else _ALL
    pickle.dump({name: _outcome(_ALL[name]) for name in names}, f)
