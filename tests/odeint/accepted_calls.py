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

"""Calls of odeint that stock JAX accepts, for ``drop_in_test.py``.

As a script, this file writes the results of the calls to the given file: on
stock JAX by itself, and with the patch by ``python -m jax_patch``.
"""

import collections
import dataclasses
import functools
import operator
import pickle
import sys
import warnings

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import sparse
from jax.experimental.ode import odeint
from jax.tree_util import Partial
import numpy as np

T = jnp.array([0., .5, 1.])
ONES = jnp.ones(2)
COARSE = dict(rtol=1e-2, atol=1e-2)
HALF = jnp.ones(2, 'float16')
F32, F64 = jnp.ones(2, 'float32'), np.ones(2)

Point = collections.namedtuple("Point", "x y")

class Model:
  k = .5

  def decay(self, y, t):
    return -self.k * y

  def __call__(self, y, t, k=1.):
    return -self.k * k * y

@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"],
                   meta_fields=["info"])
@dataclasses.dataclass
class State:
  value: jax.Array
  info: object

def decay(y, t, *args):
  return -.5 * y

def forced(y, t):
  return -y * t

def scaled(y, t, a):
  return -a * y

@dataclasses.dataclass
class Call:
  func: object
  y0: object = dataclasses.field(default_factory=lambda: ONES)
  t: object = dataclasses.field(default_factory=lambda: T)
  args: tuple = ()
  options: dict = dataclasses.field(default_factory=dict)

  def value(self):
    return odeint(self.func, self.y0, self.t, *self.args, **self.options)

  def gradient(self):
    out, vjp = jax.vjp(lambda y0, t, *args: odeint(
        self.func, y0, t, *args, **self.options), self.y0, self.t, *self.args)
    return vjp(jax.tree.map(jnp.ones_like, out))

CALLS = dict(
    # Half precision, and precisions mixed.
    float16=Call(decay, HALF, options=COARSE),
    bfloat16=Call(decay, HALF.astype('bfloat16'), options=COARSE),
    float32_of_float16=Call(lambda y, t: -HALF * F32, F32, options=COARSE),
    float16_argument=Call(scaled, HALF, args=(.5,), options=COARSE),
    float16_beside_float32=Call(
        lambda y, t: (-y[1], -y[0]), y0=(HALF, F32), options=COARSE),
    float64_of_float32=Call(lambda y, t: y.astype('float32') * -.5, F64),
    float32_of_float64=Call(lambda y, t: -F64 * y, F32),
    float32_state_float64_time=Call(
        lambda y, t: -y * t.astype(y.dtype), F32, np.array([0., .5, 1.])),
    float32_beside_float64=Call(lambda y, t: [-y[0], -y[1]], [F32, F64]),
    float64_argument=Call(scaled, F32, args=(np.float64(.5),)),
    # Complex numbers.
    complex=Call(lambda y, t: -1j * y, jnp.ones(2, complex)),
    real_derivative=Call(lambda y, t: -.5 * y.real, jnp.ones(2, complex)),
    complex_beside_real=Call(
        lambda y, t: (-1j * y[0], -y[1]), (jnp.ones(2, complex), ONES)),
    complex_argument=Call(lambda y, t, a: -a.imag * y, args=(1j,)),
    python_complex=Call(decay, 1j),
    # Integers and what they come with.
    int_leaf=Call(lambda y, t: (0 * y[0], -y[1]), (jnp.arange(2), ONES)),
    int_leaf_of_dict=Call(
        lambda y, t: {"a": -y["a"], "n": jnp.zeros_like(y["n"])},
        {"a": ONES, "n": jnp.arange(2)}),
    python_int_leaf=Call(lambda y, t: (0, -y[1]), (3, ONES)),
    bool_leaf=Call(lambda y, t: (y[0] * False, -y[1]), (True, ONES)),
    int_derivative=Call(
        lambda y, t: (jnp.ones(2, 'int32'), -y[1]), (ONES, ONES)),
    bool_derivative=Call(lambda y, t: (y[0] > 0, -y[1]), (ONES, ONES)),
    int_argument=Call(scaled, args=(2,)),
    bool_argument=Call(lambda y, t, a: -y * a, args=(jnp.array(True),)),
    index_argument=Call(
        lambda y, t, i: -jnp.array([1., 2.])[i] * y, args=(np.int8(1),)),
    key_argument=Call(lambda y, t, k: -jax.random.uniform(k, dtype=y.dtype) * y,
                      args=(jax.random.key(0),)),
    raw_key_argument=Call(
        lambda y, t, k: -jax.random.uniform(k, dtype=y.dtype) * y,
        args=(jax.random.PRNGKey(0),)),
    # Outputs that only ravel to the state.
    flat_output=Call(lambda y, t: -y.ravel(), jnp.eye(2)),
    column_output=Call(lambda y, t: -y.reshape(4, 1), jnp.eye(2)),
    vector_output=Call(lambda y, t: -y[None], y0=1.),
    scalar_output=Call(lambda y, t: -y[0], jnp.ones(1)),
    list_output=Call(lambda y, t: [-y[0], y[1]]),
    array_output=Call(lambda y, t: -jnp.array(y), [1., 2.]),
    nested_output=Call(lambda y, t: [[-y[0]], ([-y[1]],)], (1., ONES)),
    numpy_output=Call(lambda y, t: np.array([1., 2.], 'float32')),
    python_output=Call(lambda y, t: [1., 2]),
    extra_none=Call(lambda y, t: (-y, None)),
    # Containers.
    scalar=Call(decay, 1.),
    list_for_tuple=Call(lambda y, t: [-y[0], y[1]], (1., ONES)),
    tuple_for_list=Call(lambda y, t: (-y[0], y[1]), [1., 2.]),
    list_for_dict=Call(
        lambda y, t: [-y["b"], y["a"]], {"a": 1., "b": 2.}),
    dict_for_ordered=Call(
        lambda y, t: dict(a=-y["a"], b=y["b"]),
        collections.OrderedDict(b=1., a=2.)),
    default_dict=Call(lambda y, t: {1: -y[1], 2: y[2]},
                      collections.defaultdict(float, {1: 1., 2: 2.})),
    namedtuple=Call(lambda y, t: Point(-y.y, y.x), Point(1., 2.)),
    tuple_for_namedtuple=Call(lambda y, t: (-y.y, y.x), Point(1., ONES[0])),
    dataclass=Call(lambda y, t: State(-y.value, "other"), State(ONES, "info")),
    none_leaf=Call(lambda y, t: (-y[0], None), (ONES, None)),
    missing_none=Call(lambda y, t: [-y[0]], (ONES, None)),
    empty_leaf=Call(lambda y, t: (y[0], -y[1]), (jnp.ones(0), ONES)),
    empty_subtree=Call(lambda y, t: (-y[0], {}), (ONES, ())),
    empty_array=Call(decay, jnp.ones(0)),
    # Weak types, NumPy, arguments.
    weak_state=Call(decay, jnp.asarray(1.)),
    strong_derivative=Call(
        lambda y, t: np.float32(-.5) * y, jnp.asarray(1.)),
    numpy_state=Call(decay, np.ones(2)),
    numpy_scalar=Call(decay, np.float64(1.)),
    numpy_time=Call(forced, t=np.linspace(0., 1., 5)[::2]),
    one_time=Call(decay, t=T[:1]),
    repeated_time=Call(decay, t=jnp.array([0., 0., 1.])),
    python_argument=Call(scaled, args=(.5,)),
    weak_argument=Call(scaled, args=(jnp.asarray(.5),)),
    none_argument=Call(lambda y, t, a: -y if a is None else y, args=(None,)),
    nested_arguments=Call(
        lambda y, t, a, b, *c: -a["k"][0] * b.y * y * len(c),
        args=({"k": [1., (2,)], "z": None}, Point(1., True), (), {})),
    unused_argument=Call(decay, args=(jnp.ones(3), jnp.arange(3))),
    sparse_argument=Call(
        lambda y, t, a: -(a @ y), args=(sparse.BCOO.fromdense(jnp.eye(2)),)),
    function_argument=Call(
        lambda y, t, f: -f(y), args=(Partial(operator.mul, 2.),)),
    # Callables.
    partial=Call(functools.partial(lambda a, y, t: -a[0] * y, [2.])),
    tree_partial=Call(Partial(lambda a, y, t: -a * y, jnp.array(2.))),
    method=Call(Model().decay),
    callable_object=Call(Model(), args=(2.,)),
    default_argument=Call(lambda y, t, k=2.: -k * y),
    jitted=Call(jax.jit(forced)),
    vmapped=Call(jax.vmap(forced, (0, None))),
    gradient_of_energy=Call(jax.grad(lambda y, t: -jnp.sum(y ** 2))),
    remat=Call(jax.checkpoint(lambda y, t: -jnp.sin(y))),
    built_in=Call(operator.mul, 1.),
    universal_function=Call(jnp.multiply, F32),
    control_flow=Call(lambda y, t: lax.fori_loop(
        0, 2, lambda _, y: .9 * y,
        lax.cond(t > .5, lambda y: -y, lambda y: y, y))),
    callback=Call(lambda y, t: jax.pure_callback(
        lambda y: -np.asarray(y), y, y)),
    captured_matrix=Call(lambda y, t: -np.eye(2, dtype='float32') @ y, F32),
    captured_bfloat16=Call(lambda y, t: -ONES.astype('bfloat16') * y),
    nested_solve=Call(lambda y, t: -odeint(decay, y, T)[-1]),
    # Options.
    mxstep=Call(decay, options=dict(mxstep=3)),
    numpy_mxstep=Call(decay, options=dict(mxstep=np.int64(3))),
    float_mxstep=Call(decay, options=dict(mxstep=3.)),
    hmax=Call(decay, options=dict(hmax=.1)),
    int_hmax=Call(decay, options=dict(hmax=1)),
    numpy_options=Call(decay, options=dict(
        rtol=np.float64(1e-3), atol=np.float32(1e-4), hmax=np.float32(.2))),
)

# Those among them for which stock's gradient works too.
GRADIENTS = (
    "float16_beside_float32", "float32_of_float64", "float64_of_float32",
    "float32_state_float64_time", "complex",
    "nested_output", "list_for_dict", "none_leaf", "empty_leaf",
    "numpy_scalar", "none_argument", "function_argument", "nested_solve")

# Those that also run in 64 bits.
X64 = (
    "float16", "float16_argument", "float16_beside_float32",
    "float64_of_float32", "float32_state_float64_time",
    "float32_beside_float64", "complex", "python_complex", "python_int_leaf",
    "int_argument", "numpy_output", "python_output", "scalar", "weak_state",
    "strong_derivative", "numpy_scalar", "numpy_time", "python_argument",
    "captured_matrix", "numpy_options", "under_jit", "under_half_captured",
    "gradient_of_complex")

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
    vmap_time=lambda: jax.vmap(lambda s: odeint(forced, ONES, s * T))(T + 1.),
    scan=lambda: lax.scan(lambda c, k: (c, _captured(k)), 0., T)[1],
    grad=lambda: jax.grad(lambda k: _captured(k)[-1].sum())(.5),
    jit_grad=lambda: jax.jit(jax.grad(lambda k: _captured(k)[-1].sum()))(.5),
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
    **{name: call.value for name, call in CALLS.items()},
    **{f"gradient_of_{name}": CALLS[name].gradient for name in GRADIENTS},
    **{f"under_{name}": call for name, call in CALLS_UNDER.items()}}
NAMES = tuple(_ALL)


if __name__ == "__main__":
  warnings.simplefilter("error", FutureWarning)
  with open(sys.argv[1], "wb") as f:
    names = X64 if jax.config.jax_enable_x64 else NAMES
    pickle.dump({name: _outcome(_ALL[name]) for name in names}, f)
