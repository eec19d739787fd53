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

"""The code that the benchmarks time. Only the worker processes import it.

A case is a function of the way that is measured (`impl`) and of a size, which
is None if there is one size only. It returns a function of no arguments, which
is called repeatedly. The benchmark times each call until the returned arrays
are ready, or, if a case returns a `float`, takes that as the time in seconds.

"stock" and "ours" run the same code, on stock JAX and under the patch.
"control" is stock JAX once more, in another process. "hand" is the same
computation with explicit arguments instead of a closure, on stock JAX. "limit"
is "hand" and one `jax.make_jaxpr` of the same fresh closure. "trace" is one
`jax.make_jaxpr`. The other ways are the peers of `measures.PEERS`.
"""

import contextlib
import functools
import gc
import importlib
import itertools
import time

import jax
from jax import lax
import jax.numpy as jnp
from jax.experimental import ode
import numpy as np


class Unavailable(Exception):
  """The way cannot be measured, because a package or a method is missing."""


def _need(name):
  try:
    return importlib.import_module(name)
  except ImportError:
    raise Unavailable(f"{name} is not installed") from None

def _fresh_values(make, n=32):
  # Distinct values, made before the measurement.
  values = [jax.block_until_ready(make(1. + i / n)) for i in range(n)]
  cycle = itertools.cycle(values)
  return lambda: next(cycle)


### odeint: fresh closures, and functions with explicit arguments

TS = np.linspace(0., 1., 5, dtype="float32")

def _decay(y, t, k):
  return -k * y

def _decay_case(_):
  return _decay, _fresh_values(jnp.float32), jnp.ones(3)

def _mlp(y, t, params):
  (w1, b1), (w2, b2), (w3, b3) = params
  h = jax.nn.silu(w1 @ y + b1)
  h = jax.nn.softplus(w2 @ h + b2)
  return w3 @ h + b3 - y

def _mlp_case(_):
  widths = [4, 32, 32, 4]
  rng = np.random.default_rng(0)
  weights = [(rng.normal(size=(n, m)) / m, np.zeros(n))
             for m, n in zip(widths, widths[1:])]
  def make(scale):
    return jax.tree.map(lambda w: jnp.asarray(scale * w, "float32"), weights)
  return _mlp, _fresh_values(make), jnp.ones(4)

@jax.custom_jvp
def _safe_sqrt(x):
  return jnp.sqrt(jnp.maximum(x, 0.))

@_safe_sqrt.defjvp
def _safe_sqrt_jvp(primals, tangents):
  y = _safe_sqrt(*primals)
  return y, tangents[0] * .5 / jnp.maximum(y, 1e-3)

def _rule_case(_):
  field = lambda y, t, k: -k * _safe_sqrt(y)
  return field, _fresh_values(jnp.float32), jnp.ones(3)

@jax.custom_vjp
def _sin_on_the_host(x):
  return jax.pure_callback(
      np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x,
      vmap_method="sequential")

_sin_on_the_host.defvjp(lambda x: (_sin_on_the_host(x), x),
                        lambda x, g: (g * jnp.cos(x),))

def _callback_case(_):
  field = lambda y, t, k: -k * _sin_on_the_host(y)
  return field, _fresh_values(jnp.float32), jnp.ones(3)

def _cubic(x, k, y):
  return x ** 3 + x - k * y

def _solver_in_solver_case(impl):
  def field(y, t, k):
    closure = lambda x: _cubic(x, k, y)
    if impl in ("limit", "hand"):
      return -root(_cubic, y, (k, y))
    if impl == "ours":
      f = jax.custom_derivatives.closure_to_pytree(closure, y)
      return -root(_call_with_last, y, (f,))
    f, aux = jax.closure_convert(closure, y)
    return -root(f, y, tuple(aux))
  return field, _fresh_values(jnp.float32), jnp.ones(3)

def _odeint_case(impl, case, gradient):
  field, fresh, y0 = case(impl)
  ts = jnp.asarray(TS)
  def solve(params):
    closure = lambda y, t: field(y, t, params)
    if impl == "limit":
      jax.make_jaxpr(closure)(y0, ts[0])
    if impl in ("limit", "hand"):
      return ode.odeint(field, y0, ts, params)
    return ode.odeint(closure, y0, ts)
  if gradient:
    grad = jax.grad(lambda params: solve(params).sum())
    return lambda: grad(fresh())
  return lambda: solve(fresh())

def fresh_forward(impl, _):
  return _odeint_case(impl, _decay_case, gradient=False)

def fresh_gradient(impl, _):
  return _odeint_case(impl, _decay_case, gradient=True)

def fresh_mlp_forward(impl, _):
  return _odeint_case(impl, _mlp_case, gradient=False)

def fresh_mlp_gradient(impl, _):
  return _odeint_case(impl, _mlp_case, gradient=True)

def rule_forward(impl, _):
  return _odeint_case(impl, _rule_case, gradient=False)

def rule_gradient(impl, _):
  return _odeint_case(impl, _rule_case, gradient=True)

def callback_forward(impl, _):
  return _odeint_case(impl, _callback_case, gradient=False)

def callback_gradient(impl, _):
  return _odeint_case(impl, _callback_case, gradient=True)

def solver_forward(impl, _):
  return _odeint_case(impl, _solver_in_solver_case, gradient=False)

def solver_gradient(impl, _):
  return _odeint_case(impl, _solver_in_solver_case, gradient=True)

def again_forward(impl, _):
  return _odeint_case("hand", _decay_case, gradient=False)

def again_gradient(impl, _):
  return _odeint_case("hand", _decay_case, gradient=True)

def _again_case(wrap):
  # Dynamics of 150 equations.
  sines, ts, y0 = _sines(150), jnp.asarray(TS), jnp.ones(3)
  dynamics = wrap(lambda y, t: -sines(y))
  return lambda: ode.odeint(dynamics, y0, ts)

def again_partial(impl, _):
  return _again_case(functools.partial)

def again_jit(impl, _):
  return _again_case(jax.jit)

def matrix_gradient(impl, n):
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.normal(size=(n, n)) / n - np.eye(n), "float32")
  y0, ts = jnp.ones(n), jnp.asarray(TS)
  def loss(y0, a):
    return ode.odeint(lambda y, t: a @ y, y0, ts).sum()
  if impl == "hand":  # The matrix is a constant.
    grad = jax.jit(lambda y0: jax.grad(loss)(y0, a))
    return lambda: grad(y0)
  grad = jax.jit(jax.grad(loss))
  return lambda: grad(y0, a)


### A root finder, written with public functions of JAX

def _newton(f, x0, *args):
  def step(_, x):
    return x - jnp.linalg.solve(jax.jacobian(f)(x, *args), f(x, *args))
  return lax.fori_loop(0, 10, step, x0)

@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def root(f, x0, args):
  return _newton(f, x0, *args)

def _root_fwd(f, x0, args):
  x = root(f, x0, args)
  return x, (x, args)

def _root_bwd(f, res, x_bar):
  x, args = res
  w = jnp.linalg.solve(jax.jacobian(f)(x, *args).T, -x_bar)
  _, vjp = jax.vjp(lambda args: f(x, *args), args)
  return jnp.zeros_like(x), *vjp(w)

root.defvjp(_root_fwd, _root_bwd)
jitted_root = jax.jit(root, static_argnums=(0,))

def _residual(x, k):
  return x ** 2 + jnp.sin(x) - k

def _call_with_last(x, f):
  return f(x)

def root_of_pytree(f, x0):
  return jitted_root(_call_with_last, x0, (f,))

def _solver_case(impl, as_value, gradient):
  fresh, x0 = _fresh_values(lambda k: jnp.full(3, k)), jnp.ones(3)
  def solve(k):
    closure = lambda x: _residual(x, k)
    if impl == "limit":
      jax.make_jaxpr(closure)(x0)
    if impl in ("limit", "hand"):
      return jitted_root(_residual, x0, (k,))
    if impl == "ours" and as_value:
      f = jax.custom_derivatives.closure_to_pytree(closure, x0)
      return root_of_pytree(f, x0)
    f, aux = jax.closure_convert(closure, x0)
    return jitted_root(f, x0, tuple(aux))
  if gradient:
    grad = jax.grad(lambda k: solve(k).sum())
    return lambda: grad(fresh())
  return lambda: solve(fresh())

def pytree_forward(impl, _):
  return _solver_case(impl, as_value=True, gradient=False)

def pytree_gradient(impl, _):
  return _solver_case(impl, as_value=True, gradient=True)

def static_gradient(impl, _):
  return _solver_case(impl, as_value=False, gradient=True)


### Conversion, keys and comparison

def _sines(n):
  def fun(x):
    for _ in range(n):
      x = lax.sin(x)
    return x
  return fun

@contextlib.contextmanager
def _stopwatch(seconds):
  # The code is Python in one thread, so the clock of that thread leaves out
  # whatever else the machine does. The garbage collector is off, as in
  # `timeit`: the more objects a program leaves behind, the less often it goes
  # through the whole heap, so that a leak would make the program faster.
  gc.disable()
  try:
    start = time.thread_time()
    yield
    seconds.append(time.thread_time() - start)
  finally:
    gc.enable()

def _timed(prepare, run):
  def timed():
    prepared, seconds = prepare(), []
    with _stopwatch(seconds):
      run(*prepared)
    return seconds[0]
  return timed

def _converter(impl):
  if impl == "trace":
    return lambda fun, x: jax.make_jaxpr(fun)(x)
  if impl == "equinox":
    return _need("equinox").filter_closure_convert
  if impl == "jax.stages":
    if not hasattr(jax.stages.Traced, "closure_convert"):
      raise Unavailable("this JAX has no jax.stages.Traced.closure_convert")
    return lambda fun, x: jax.jit(fun).trace(x).closure_convert()
  return jax.closure_convert

def convert_fresh(impl, n):
  x = jnp.ones(3)
  return _timed(lambda: (_sines(n), x), _converter(impl))

def convert_again(impl, n):
  x, fun, convert = jnp.ones(3), _sines(n), _converter(impl)
  # The clock of a thread is too coarse for one conversion.
  return _timed(lambda: (), lambda: [convert(fun, x) for _ in range(100)])

def convert_numpy(impl, n):
  array = np.zeros(n * 2 ** 18, 'float32')
  x = jnp.ones(3)
  return _timed(lambda: (lambda x: x * jnp.asarray(array)[:3], x),
                jax.closure_convert)

def convert_captures(impl, n):
  x, convert = jnp.ones(3), _converter(impl)
  values = [x * i for i in range(n)]
  def run():
    seconds = []
    def outer(values):
      def fun(x):
        for value in values:
          x = lax.add(x, value)
        return x
      with _stopwatch(seconds):
        convert(fun, x)
      return x
    jax.jvp(outer, (values,), (values,))
    return seconds[0]
  return run

def _convert(n):
  return jax.closure_convert(_sines(n), jnp.ones(3))[0]

def make_key(impl, n):
  # Times the key alone, in the usual case that an equal one exists.
  if impl == "trace":
    return convert_fresh(impl, n)
  from jax_patch.jaxpr_key import jaxpr_key
  jaxpr = jax.make_jaxpr(_sines(n))(jnp.ones(3)).jaxpr
  known = jaxpr_key(jaxpr)
  return _timed(lambda: (known,), lambda _: jaxpr_key(jaxpr))

def compare(impl, n):
  if impl == "trace":
    return convert_fresh(impl, n)
  f, g = _convert(n), _convert(n)
  repeats = 1000  # The clock of a thread is too coarse for one comparison.
  def run():
    for _ in range(repeats):
      hash(f), f == g
  timed = _timed(lambda: (), run)
  return lambda: timed() / repeats

def nested_jit(impl, depth):
  x = jnp.ones(3)
  def make():
    f = lax.sin
    for _ in range(depth):
      f = _twice(f)
    return f
  known, _ = jax.closure_convert(make(), x)
  def run(fun):
    converted, _ = jax.closure_convert(fun, x)
    hash(converted), converted == known
  return _timed(lambda: (make(),), run)

def _twice(f):
  return jax.jit(lambda x: f(x) + f(x))
