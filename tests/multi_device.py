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

"""Closures over sharded arrays, on eight devices of one process or of two.

This is run by ``multi_device_test.py``, in processes of its own, as the number
of devices cannot be changed later. What a solver makes of a closure, its value,
its gradient and the shardings of both, has to be what it makes of arguments
that are threaded by hand.
"""

import os
import sys

from absl.testing import absltest, parameterized
import numpy as np

import jax
import apply_patch  # noqa: F401
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P

jax.config.parse_flags_with_absl()


# A root finder for functions that act on each element by itself.

def _newton(f, x0, *args):
  def step(_, x):
    f_x, df_x = jax.jvp(lambda x: f(x, *args), (x,), (jnp.ones_like(x),))
    return x - f_x / df_x
  return lax.fori_loop(0, 8, step, x0)

def _slope(f, x, *args):
  return jax.jvp(lambda x: f(x, *args), (x,), (jnp.ones_like(x),))[1]

_root_vjp = jax.custom_vjp(_newton, nondiff_argnums=(0,))

def _root_vjp_fwd(f, x0, *args):
  x = _root_vjp(f, x0, *args)
  return x, (x, args)

def _root_vjp_bwd(f, res, x_bar):
  x, args = res
  _, vjp_args = jax.vjp(lambda *args: f(x, *args), *args)
  return jnp.zeros_like(x), *vjp_args(-x_bar / _slope(f, x, *args))

_root_vjp.defvjp(_root_vjp_fwd, _root_vjp_bwd)

_root_jvp = jax.custom_jvp(_newton, nondiff_argnums=(0,))

@_root_jvp.defjvp
def _root_jvp_rule(f, primals, tangents):
  x, args = _root_jvp(f, *primals), primals[1:]
  _, f_dot = jax.jvp(lambda *args: f(x, *args), args, tangents[1:])
  return x, -f_dot / _slope(f, x, *args)

# What all solvers are given: an equation in x, and a rate of change of y.

def _equation(x, k, i):
  return x ** 2 - k * (1 + i)

def _rate(y, t, k, i):
  return -k * (1 + i) * y / (1. + t)

def _by_closure_convert(root):
  def solve(k, i):
    x0 = 0. * k + 2.
    f, aux = jax.closure_convert(lambda x: _equation(x, k, i), x0)
    return root(f, x0, *aux)
  return solve

def _odeint(k, i):
  ys = odeint(lambda y, t: _rate(y, t, k, i), 0. * k + 1., _times())
  return ys[-1]

@jax.jit
def _solve_pytree(f, x0):
  return _root_vjp(lambda x, f: f(x), x0, f)

def _pytree(k, i):
  x0 = 0. * k + 2.
  return _solve_pytree(closure_to_pytree(lambda x: _equation(x, k, i), x0), x0)

def _by_hand(root):
  return lambda k, i: root(_equation, 0. * k + 2., k, i)

def _odeint_by_hand(k, i):
  return odeint(_rate, 0. * k + 1., _times(), k, i)[-1]

def _times():
  return jnp.array([0., .5])

def _values():
  k = np.linspace(1., 3., 16, dtype=jnp.result_type(float))
  return k, np.arange(16, dtype="int32") % 3

# A solver of a closure, and the same with arguments threaded by hand.
WAYS = {
    "custom_vjp": (_by_closure_convert(_root_vjp), _by_hand(_root_vjp)),
    "custom_jvp": (_by_closure_convert(_root_jvp), _by_hand(_root_jvp)),
    "odeint": (_odeint, _odeint_by_hand),
    "pytree": (_pytree, jax.jit(_by_hand(_root_vjp))),
}

SPECS = {"sharded": P("x"), "replicated": P()}


def _value_and_grad(solve):
  def loss(k, i):
    x = solve(k, i)
    return jnp.sum(jnp.sin(x)), x
  def f(k, i):
    (value, x), k_bar = jax.value_and_grad(loss, has_aux=True)(k, i)
    return value, x, k_bar
  return f


@jtu.with_config(jax_numpy_dtype_promotion="standard")
class MultiDeviceTest(jtu.JaxTestCase):

  def setUp(self):
    super().setUp()
    self.assertLen(jax.devices(), 8)
    self.mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))

  def arrays(self, spec, mesh=None):
    sharding = NamedSharding(mesh or self.mesh, spec)
    return [jax.make_array_from_callback(x.shape, sharding, x.__getitem__)
            for x in _values()]

  def check(self, actual, expected):
    # The solution of the equation is known: a reference for all.
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
      self.assertEqual((a.shape, a.dtype), (e.shape, e.dtype))
      self.assertTrue(a.sharding.is_equivalent_to(e.sharding, a.ndim),
                      f"{a.sharding} is not {e.sharding}")
      for x, y in zip(a.addressable_shards, e.addressable_shards):
        self.assertEqual((x.device, x.index), (y.device, y.index))
        np.testing.assert_allclose(x.data, y.data, rtol=1e-5)

  @parameterized.product(way=list(WAYS), spec=list(SPECS))
  def test_eager(self, way, spec):
    closure, by_hand = map(_value_and_grad, WAYS[way])
    args = self.arrays(SPECS[spec])
    if jax.process_count() > 1:
      # No operation is eager across processes.
      closure, by_hand = jax.jit(closure), jax.jit(by_hand)
    self.check(closure(*args), by_hand(*args))

  @parameterized.product(way=list(WAYS), inputs=list(SPECS))
  def test_jit_with_shardings(self, way, inputs):
    outputs, = SPECS.keys() - {inputs}
    shardings = dict(
        in_shardings=NamedSharding(self.mesh, SPECS[inputs]),
        out_shardings=(NamedSharding(self.mesh, P()),
                       NamedSharding(self.mesh, SPECS[outputs]),
                       NamedSharding(self.mesh, SPECS[outputs])))
    args = self.arrays(SPECS[inputs])
    closure, by_hand = (jax.jit(_value_and_grad(f), **shardings)
                        for f in WAYS[way])
    actual = closure(*args)
    self.check(actual, by_hand(*args))
    self.assertTrue(actual[2].sharding.is_equivalent_to(
        shardings["out_shardings"][2], 1))

  @parameterized.product(way=list(WAYS), grad_inside=[True, False])
  def test_shard_map(self, way, grad_inside):
    def mapped(solve):
      if grad_inside:
        def f(k, i):
          value, *rest = _value_and_grad(solve)(k, i)
          return value[None], *rest
      else:
        # What is captured depends on the other devices too.
        f = lambda k, i: solve(k + lax.pmean(k, "x"), i)
      # The integrator mixes what varies over the devices with what does not,
      # also for a function that captures nothing.
      g = jax.shard_map(f, mesh=self.mesh, in_specs=P("x"), out_specs=P("x"),
                        check_vma=way != "odeint")
      return jax.jit(g if grad_inside else _value_and_grad(g))
    args = self.arrays(P("x"))
    closure, by_hand = map(mapped, WAYS[way])
    self.check(closure(*args), by_hand(*args))

  # The integrator does not take a state whose type says how it is sharded.
  @parameterized.product(way=[way for way in WAYS if way != "odeint"])
  def test_sharding_in_types(self, way):
    mesh = jax.make_mesh((8,), ("x",),
                         axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
      args = [jax.device_put(x, P("x")) for x in _values()]
      results = []
      for solve in WAYS[way]:
        def f(k, i, solve=solve):
          k_bar = jax.grad(lambda k: jnp.sum(jnp.sin(solve(k, i))))(k)
          self.assertEqual(jax.typeof(k_bar).sharding.spec, P("x"))
          return k_bar
        results.append(jax.jit(f)(*args))
      self.check(*results)

  # How an array is sharded is part of its type. JAX evaluates a program at
  # another one, unless it is told to check types.
  @parameterized.parameters("array", "type")
  def test_converted_for_another_sharding(self, example):
    examples = {
        "array": lambda k: jnp.full(k.shape, 2., k.dtype),  # replicated
        "type": lambda k: jax.ShapeDtypeStruct(k.shape, k.dtype)}
    def solve(k, i):
      f, aux = jax.closure_convert(
          lambda x: _equation(x, k, i), examples[example](k))
      return _root_vjp(f, 0. * k + 2., *aux)
    by_hand = _by_hand(_root_vjp)
    mesh = jax.make_mesh((8,), ("x",),
                         axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh), config.enable_checks(False):
      args = self.arrays(P("x"), mesh)
      self.check(jax.jit(_value_and_grad(solve))(*args),
                 jax.jit(_value_and_grad(by_hand))(*args))

  @parameterized.parameters(True, False)
  def test_captured_array_chooses_no_device(self, committed):
    # As a constant of the program, which it is on stock JAX.
    first, *_, second = jax.local_devices()
    y0 = jax.device_put(jnp.ones(2), first if committed else None)
    captured = jax.device_put(jnp.ones(2), second)
    solve = lambda y0: odeint(lambda y, t: -captured * y, y0, _times())[-1]
    y = solve(y0)
    y0_bar = jax.grad(lambda y0: solve(y0).sum())(y0)
    self.assertEqual([y.devices(), y0_bar.devices()], [{first}] * 2)
    self.assertAllClose(y, np.exp([-.5] * 2), check_dtypes=False, rtol=1e-5)
    self.assertAllClose(y0_bar, y, rtol=1e-5)

  def test_known_root(self):
    k, i = self.arrays(P("x"))
    solve, _ = WAYS["custom_vjp"]
    _, x, k_bar = jax.jit(_value_and_grad(solve))(k, i)
    for xs, ks, ns, bars in zip(*[a.addressable_shards
                                  for a in (x, k, i, k_bar)]):
      root = np.sqrt(np.asarray(ks.data) * (1 + np.asarray(ns.data)))
      np.testing.assert_allclose(xs.data, root, rtol=1e-5)
      np.testing.assert_allclose(
          bars.data, np.cos(root) * root / (2 * np.asarray(ks.data)),
          rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
  if (address := os.environ.get("MULTI_DEVICE_ADDRESS")) is not None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address, num_processes=2,
        process_id=int(os.environ["MULTI_DEVICE_PROCESS"]))
  absltest.main(argv=sys.argv[:1], testLoader=jtu.JaxTestLoader())
