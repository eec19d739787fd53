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

"""What the benchmarks run. Imported by the worker processes only.

A case is a function of the way that is measured (`impl`) and of a size, or None
where there is one size only. It returns a function of no arguments to be
called over and over. The time of each call counts, up to the moment when the
arrays that it returns are ready; or, where it returns a `float`, those seconds.

The ways: "stock" and "ours" run the same code, before and after
`jax_patch.apply()`. "control" is stock once more, in a process of its own.
"limit" is what one writes by hand to avoid the cost that a case is about, run
on stock JAX. All others are peers, named as in `measures.PEERS`.
"""

import dataclasses
import functools
import importlib
import itertools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jax.experimental import ode
import numpy as np


class Unavailable(Exception):
  """This way cannot be measured here: what it needs is not installed."""


def _need(name):
  try:
    return importlib.import_module(name)
  except ImportError:
    raise Unavailable(f"{name} is not installed") from None

def _fresh_values(make, n=32):
  # Distinct values, made beforehand, so that making them is not measured.
  values = [jax.block_until_ready(make(1. + i / n)) for i in range(n)]
  cycle = itertools.cycle(values)
  return lambda: next(cycle)


### odeint: fresh closures, and functions with explicit arguments

def _decay(y, t, k):
  return -k * y

def _decay_case():
  return _decay, _fresh_values(jnp.float32), jnp.ones(3)

def _mlp(y, t, params):
  (w1, b1), (w2, b2), (w3, b3) = params
  h = jax.nn.silu(w1 @ y + b1)
  h = jax.nn.softplus(w2 @ h + b2)
  return w3 @ h + b3 - y

def _mlp_case():
  widths = [4, 32, 32, 4]
  rng = np.random.default_rng(0)
  weights = [(rng.normal(size=(n, m)) / m, np.zeros(n))
             for m, n in zip(widths, widths[1:])]
  def make(scale):
    return jax.tree.map(lambda w: jnp.asarray(scale * w, 'float32'), weights)
  return _mlp, _fresh_values(make), jnp.ones(4)

TS = np.linspace(0., 1., 5, dtype='float32')

def _odeint_case(impl, case, gradient):
  field, fresh, y0 = case()
  ts = jnp.asarray(TS)
  if impl == "limit":
    def solve(params):
      return ode.odeint(field, y0, ts, params)
  elif impl == "equinox":
    to_parts = _equinox_to_parts()
    def solve(params):
      arrays, f = to_parts(lambda y, t: field(y, t, params), y0, ts[0])
      return ode.odeint(f, y0, ts, arrays)
  elif impl.startswith("diffrax"):
    solve = _diffrax(field, y0, ts, impl == "diffrax limit")
  else:
    def solve(params):
      return ode.odeint(lambda y, t: field(y, t, params), y0, ts)
  if gradient:
    grad = jax.grad(lambda params: solve(params).sum())
    return lambda: grad(fresh())
  return lambda: solve(fresh())

def _equinox_to_parts():
  # A converted function of Equinox is a pytree with a jaxpr among its leaves,
  # so it goes through `jit` in two parts.
  eqx = _need("equinox")
  def to_parts(fun, *example_args):
    converted = eqx.filter_closure_convert(fun, *example_args)
    arrays, rest = eqx.partition(converted, eqx.is_array)
    leaves, tree = jax.tree.flatten(rest)
    return arrays, _Combined(tuple(leaves), tree)
  return to_parts

@dataclasses.dataclass(frozen=True)
class _Combined:
  # Compares as the parts do, which is what `equinox.filter_jit` goes by.
  leaves: tuple[Any, ...]
  tree: Any

  def __call__(self, *args):
    *args, arrays = args
    rest = jax.tree.unflatten(self.tree, self.leaves)
    return importlib.import_module("equinox").combine(arrays, rest)(*args)

def _diffrax(field, y0, ts, by_hand):
  dfx = _need("diffrax")
  options = dict(
      solver=dfx.Dopri5(), t0=ts[0], t1=ts[-1], dt0=None, y0=y0,
      saveat=dfx.SaveAt(ts=ts),
      stepsize_controller=dfx.PIDController(rtol=1e-6, atol=1e-6))
  stable = dfx.ODETerm(lambda t, y, params: field(y, t, params))
  def solve(params):
    if by_hand:
      return dfx.diffeqsolve(stable, args=params, **options).ys
    fresh = dfx.ODETerm(lambda t, y, _: field(y, t, params))
    return dfx.diffeqsolve(fresh, **options).ys
  return solve

def fresh_forward(impl, _):
  return _odeint_case(impl, _decay_case, gradient=False)

def fresh_gradient(impl, _):
  return _odeint_case(impl, _decay_case, gradient=True)

def fresh_mlp_forward(impl, _):
  return _odeint_case(impl, _mlp_case, gradient=False)

def fresh_mlp_gradient(impl, _):
  return _odeint_case(impl, _mlp_case, gradient=True)

def fresh_python_float(impl, _):
  # Values that do not come back: each is another constant in the program.
  values = map(float, np.random.default_rng(0).uniform(1, 2, size=100_000))
  ts, y0 = jnp.asarray(TS), jnp.ones(3)
  if impl == "limit":
    return lambda: ode.odeint(_decay, y0, ts, next(values))
  def solve(k):
    return ode.odeint(lambda y, t: -k * y, y0, ts)
  return lambda: solve(next(values))

def stable_forward(_, size):
  return _odeint_case("limit", _decay_case, gradient=False)

def stable_gradient(_, size):
  return _odeint_case("limit", _decay_case, gradient=True)

def stable_mlp_gradient(_, size):
  return _odeint_case("limit", _mlp_case, gradient=True)


### odeint: programs of many equations, and captured values

def _many_equations(y, t, k):
  for _ in range(250):
    y = k * lax.sin(y)
  return y

def _lowering(impl, gradient):
  fresh, y0, ts = _fresh_values(jnp.float32), jnp.ones(3), jnp.asarray(TS)
  def run():
    def solve(k, y0):
      # Another function each time: nothing of it may be in a cache.
      field = lambda y, t, k: _many_equations(y, t, k)
      if impl == "limit":
        return ode.odeint(field, y0, ts, k).sum()
      return ode.odeint(lambda y, t: field(y, t, k), y0, ts).sum()
    jax.jit(jax.grad(solve) if gradient else solve).lower(fresh(), y0)
  return run

def lower_forward(impl, _):
  return _lowering(impl, gradient=False)

def lower_gradient(impl, _):
  return _lowering(impl, gradient=True)

def matrix_gradient(impl, n):
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.normal(size=(n, n)) / n - np.eye(n), 'float32')
  y0, ts = jnp.ones(n), jnp.asarray(TS)
  def loss(y0, a):
    return ode.odeint(lambda y, t: a @ y, y0, ts).sum()
  if impl == "limit":
    grad = jax.jit(lambda y0: jax.grad(loss)(y0, a))
    return lambda: grad(y0)
  grad = jax.jit(jax.grad(loss))
  return lambda: grad(y0, a)


### A solver of one's own, with public API alone

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

def _call_with_consts(fun, x, consts):
  return fun(consts, x)

def converter(impl):
  if impl == "equinox":
    return _need("equinox").filter_closure_convert
  if impl == "jax.stages":
    if not hasattr(jax.stages.Traced, "closure_convert"):
      raise Unavailable("this JAX has no jax.stages.Traced.closure_convert")
    return lambda fun, x: jax.jit(fun).trace(x).closure_convert()
  return lambda fun, x: jax.closure_convert(fun, x)

def _solver(impl, as_value):
  # Whether the closure goes through `jit` as a pytree, where there is a choice.
  if impl == "limit":
    return lambda k, x0: jitted_root(_residual, x0, (k,))
  if impl == "jax.stages":
    convert = converter(impl)
    def solve(k, x0):
      consts, fun = convert(lambda x: _residual(x, k), x0)
      return jitted_root(
          functools.partial(_call_with_consts, fun), x0, (consts,))
    return solve
  if impl == "equinox":
    to_parts = _equinox_to_parts()
    def solve(k, x0):
      arrays, f = to_parts(lambda x: _residual(x, k), x0)
      return jitted_root(f, x0, (arrays,))
    return solve
  if impl == "ours" and as_value:
    to_pytree = getattr(jax.custom_derivatives, "closure_to_pytree", None)
    if not to_pytree:
      raise Unavailable("there is no closure_to_pytree")
    def solve(k, x0):
      f = to_pytree(lambda x: _residual(x, k), x0)
      return root_of_pytree(f, x0)
    return solve
  def solve(k, x0):
    f, aux = jax.closure_convert(lambda x: _residual(x, k), x0)
    return jitted_root(f, x0, tuple(aux))
  return solve

def _solver_case(impl, as_value, gradient):
  solve = _solver(impl, as_value)
  fresh, x0 = _fresh_values(lambda k: jnp.full(3, k)), jnp.ones(3)
  if gradient:
    grad = jax.grad(lambda k: solve(k, x0).sum())
    return lambda: grad(fresh())
  return lambda: solve(fresh(), x0)

def solver_pytree_forward(impl, _):
  return _solver_case(impl, as_value=True, gradient=False)

def solver_pytree_gradient(impl, _):
  return _solver_case(impl, as_value=True, gradient=True)

def solver_static_gradient(impl, _):
  return _solver_case(impl, as_value=False, gradient=True)
