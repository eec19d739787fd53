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

"""Closures and odeint on eight devices: arrays placed on them, and shard_map.

The solutions of the equations are known.
"""

import functools
import itertools
import unittest

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import test_util as jtu
from jax.experimental.ode import odeint
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(8)

PLACES = [
    "uncommitted", "one_device", "replicated", "sharded", "reversed", "part"]

def setUpModule():
  if jax.device_count() < 8:
    raise unittest.SkipTest("needs 8 devices")

def _placed(x, place):
  if place == "uncommitted":
    return jnp.asarray(x)
  devices = np.array(jax.devices()[:8])
  if place == "one_device":
    return jax.device_put(x, devices[-1])
  devices = {"reversed": devices[::-1], "part": devices[:4]}.get(place, devices)
  spec = P() if place == "replicated" else P("x")
  return jax.device_put(
      x, NamedSharding(jax.sharding.Mesh(devices, ("x",)), spec))


class PlacementsTest(jtu.JaxTestCase):
  """The devices of states, arguments and captured arrays.

  A captured array is an argument of the compiled solver, if it is not committed
  to devices, or to the devices of what is passed, in their order. Otherwise it
  is a constant, as on stock JAX. So a captured array never chooses the devices,
  and there is no error where a constant has none.
  """

  def setUp(self):
    super().setUp()
    dtype = jnp.result_type(float)
    self.y0 = np.linspace(1., 2., 8, dtype=dtype)
    self.k = np.linspace(-1., 1., 8, dtype=dtype)
    self.times = np.array([0., .5, 1.], dtype)
    self.expected = self.y0 * np.exp(-self.k)

  def check(self, y, place, expected):
    self.assertEqual(y.devices(), _placed(self.y0, place).devices())
    self.assertAllClose(y, expected, check_dtypes=False, rtol=1e-5, atol=1e-5)

  @parameterized.product(
      y0=["uncommitted", "sharded"], k=PLACES,
      mode=["eager", "jit", "grad_y0", "grad_k"])
  def test_captured(self, y0, k, mode):
    def solve(y0, k):
      return odeint(lambda y, t: -k * y, y0, self.times)[-1]
    def loss(*args):
      return solve(*args).sum()
    y, k_array = _placed(self.y0, y0), _placed(self.k, k)
    if mode == "eager":
      self.check(solve(y, k_array), y0, self.expected)
    elif mode == "jit":
      self.check(jax.jit(lambda y: solve(y, k_array))(y), y0, self.expected)
    elif mode == "grad_y0":
      self.check(jax.grad(loss)(y, k_array), y0, np.exp(-self.k))
    elif y0 == "sharded" and k in ("one_device", "reversed", "part"):
      # Both are arguments then, as on stock JAX.
      with self.assertRaisesRegex(ValueError, "incompatible devices"):
        jax.grad(loss, 1)(y, k_array)
    else:
      self.check(jax.grad(loss, 1)(y, k_array),
                 y0 if k == "uncommitted" else k, -self.expected)

  @parameterized.product(passed=["times", "argument"], captured=PLACES)
  def test_times_and_argument(self, passed, captured):
    y0, times, k = map(jnp.asarray, (self.y0, self.times, self.k))
    if passed == "times":
      times = _placed(times, "replicated")
    else:
      k = _placed(k, "replicated")
    c = _placed(np.ones_like(self.k), captured)
    y = odeint(lambda y, t, k: -k * c * y, y0, times, k)[-1]
    self.check(y, "replicated", self.expected)

  # The result is sharded as it is if the array is passed. A constant would
  # leave it replicated, and each device with a copy of the whole.
  def test_sharding_comes_from_a_captured_array(self):
    y0, k = _placed(self.y0, "replicated"), _placed(self.k, "sharded")
    y = odeint(lambda y, t: -k * y, y0, self.times)[-1]
    by_hand = odeint(lambda y, t, k: -k * y, y0, self.times, k)[-1]
    self.assertTrue(y.sharding.is_equivalent_to(by_hand.sharding, 1))
    self.check(y, "sharded", self.expected)

  # Also where the arrays that say which devices are being differentiated.
  @parameterized.parameters("y0", "k")
  def test_new_committed_arrays_compile_nothing(self, wrt):
    def loss(y0, k, c):
      return odeint(lambda y, t: -k * c * y, y0, self.times)[-1].sum()
    def step(scale):
      c = _placed(scale * np.ones_like(self.k), "sharded")
      y0 = _placed(self.y0, "sharded" if wrt == "y0" else "uncommitted")
      k = _placed(self.k, "sharded")
      return jax.grad(loss, ("y0", "k").index(wrt))(y0, k, c)
    step(1.)
    step(2.)
    with jtu.count_jit_compilation_cache_miss() as count:
      step(3.)
    self.assertEqual(count(), 0)


RATES = np.array([.5, 1., 1.5])

# What can vary over the devices: the state, the last time, a parameter, an
# index. The first three can be differentiated.
NAMES = ["y0", "end", "k", "i"]
WRT = (0, 1, 2)

def _values(varying):
  values = {"y0": np.linspace(1., 2., 8), "end": np.linspace(.5, 1., 8),
            "k": np.linspace(-1., 1., 8), "i": np.arange(8) % 3}
  dtypes = [jnp.result_type(float)] * 3 + [np.dtype("int32")]
  return [jnp.asarray(values[name] if name in varying else values[name][:1],
                      dtype) for name, dtype in zip(NAMES, dtypes)]

def _formula(y0, end, k, i):
  return y0 * jnp.exp(-k * jnp.asarray(RATES, k.dtype)[i] * end ** 2 / 2)

def _captured(y0, end, k, i):
  rates = jnp.asarray(RATES, k.dtype)
  times = jnp.concatenate([jnp.zeros_like(end), end])
  return odeint(lambda y, t: -k * rates[i] * t * y, y0, times)[-1]

def _arguments(y0, end, k, i):
  def rate(y, t, args):
    rates, k, i = args
    return -k * rates[i] * t * y
  times = jnp.concatenate([jnp.zeros_like(end), end])
  return odeint(rate, y0, times, (jnp.asarray(RATES, k.dtype), k, i))[-1]

def _scan_inside(y0, end, k, i):
  # In two steps, of which each takes one factor of the exponential.
  def step(y, c):
    return _captured(y, end, c * k, i), None
  return lax.scan(step, y0 + 0 * (end + k + i), jnp.array([.25, .75]))[0]

PROGRAMS = {
    "captured": _captured, "arguments": _arguments, "scan": _scan_inside}

KINDS = ["forward", "grad_inside", "grad_outside", "grad_grad"]

# Which of them vary, what is computed, by which program, with types checked.
COMBINATIONS = [
    *itertools.product([NAMES], KINDS, ["captured"], [True, False]),
    *itertools.product([*zip(NAMES)], KINDS[1:3], ["captured"], [True]),
    *itertools.product([("y0",), ("k",), NAMES], ["grad_outside"],
                       ["arguments", "scan"], [True])]


@jtu.with_config(jax_numpy_dtype_promotion="standard")
class ShardMapTest(jtu.JaxTestCase):
  """Closures and odeint inside ``jax.shard_map``.

  The reference differentiates the formula for all shards at once, so that the
  derivative in a value that is the same on all devices is the sum over the
  mesh.
  """

  def setUp(self):
    super().setUp()
    self.mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

  @parameterized.named_parameters(
      ("_".join(["all" if len(v) > 1 else v[0], kind, program,
                 "" if check else "unchecked"]), v, kind, program, check)
      for v, kind, program, check in COMBINATIONS)
  def test_odeint(self, varying, kind, program, check_vma):
    specs = tuple(P("x") if name in varying else P() for name in NAMES)
    mapped = functools.partial(jax.shard_map, mesh=self.mesh, in_specs=specs,
                               check_vma=check_vma)
    solve = PROGRAMS[program]
    ys = mapped(solve, out_specs=P("x"))

    def gradient(f):
      return jax.grad(lambda *args: f(*args).sum(), WRT)

    def grad_inside(*args):
      # Without types, the sum over the mesh is the caller's business.
      return [g if check_vma or spec == P("x") else lax.psum(g, "x")
              for g, spec in zip(gradient(solve)(*args), specs)]

    def grad_grad(f):
      return jax.grad(lambda *args: sum(
          jnp.sin(g).sum() for g in gradient(f)(*args)), WRT)

    formula = lambda *args: jnp.broadcast_to(_formula(*args), (8,))
    actual, expected = {
        "forward": (ys, formula),
        "grad_inside": (mapped(grad_inside, out_specs=[*specs[:3]]),
                        gradient(formula)),
        "grad_outside": (gradient(ys), gradient(formula)),
        "grad_grad": (grad_grad(ys), grad_grad(formula))}[kind]
    args = _values(varying)
    self.check(jax.jit(actual)(*args), expected(*args))

  def check(self, actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
      self.assertEqual((a.shape, a.dtype), (e.shape, e.dtype))
      np.testing.assert_allclose(a, e, rtol=2e-4, atol=2e-5)

  def test_eager_and_vmap_outside(self):
    args = _values(("k",))
    mapped = jax.shard_map(
        _captured, mesh=self.mesh, in_specs=(P(), P(), P("x"), P()),
        out_specs=P("x"))
    self.check(mapped(*args), _formula(*args))
    loss = lambda f: lambda c: f(c * args[0], *args[1:]).sum()
    cs = jnp.array([.5, 2.])
    self.check(jax.jit(jax.vmap(jax.grad(loss(mapped))))(cs),
               jax.vmap(jax.grad(loss(_formula)))(cs))

  def test_two_axes(self):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    def formula(y0, end, k, i):
      return _formula(y0[None], end[None], k[:, None], i[0])
    y0, end, k, i = _values(NAMES)
    args = y0[:1], end[:2], k[:4], i[1:2]
    mapped = jax.shard_map(
        lambda *args: _captured(*args)[:, None], mesh=mesh,
        in_specs=(P(), P("b"), P("a"), P()), out_specs=P("a", "b"))
    loss = lambda f: lambda *args: jnp.sin(f(*args)).sum()
    self.check(jax.jit(jax.grad(loss(mapped), WRT))(*args),
               jax.grad(loss(formula), WRT)(*args))

  # The parameters are the same on all devices, and the devices take different
  # numbers of steps. A sum over the mesh in a step would never end.
  @parameterized.parameters(
      "jit", "cond", "scan", "checkpoint", "relu", "constant", "pmean")
  def test_replicated_parameters(self, kind):
    rate = {
        "jit": jax.jit(lambda w, y: jnp.tanh(w[0] @ y) + jnp.sin(w[1, 0])),
        "cond": lambda w, y: lax.cond(
            w[0, 0, 0] > 0, lambda y: w[1] @ y, lambda y: -y, y),
        "scan": lambda w, y: lax.scan(
            lambda y, w: (jnp.tanh(w @ y), None), y, w)[0],
        "checkpoint": jax.checkpoint(lambda w, y: jnp.tanh(w[0] @ y)),
        "relu": lambda w, y: (
            jax.nn.relu(w[0] @ y) + jnp.where(y > .2, w[1, 0], y)),
        "constant": lambda w, y: w[0, 0],
        "pmean": lambda w, y: w[0] @ y}[kind]
    def solve(w, y0, mean=lambda w: w):
      return odeint(lambda y, t: rate(mean(w), y), y0, jnp.array([0., 1.]))[-1]
    w = jnp.array([[[.1, .2], [-.3, .4]], [[.5, -.2], [.1, .3]]])
    y0 = jnp.linspace(.1, 3., 16).reshape(8, 2)
    mean = (lambda w: lax.pmean(w, "x")) if kind == "pmean" else lambda w: w
    mapped = jax.shard_map(
        lambda w, y0: solve(w, y0[0], mean)[None], mesh=self.mesh,
        in_specs=(P(), P("x")), out_specs=P("x"))
    expected = jax.grad(
        lambda w: sum(jnp.sin(solve(w, y)).sum() for y in y0))(w)
    # The adjoint makes the predicate vary, which lax.cond itself takes.
    with config.enable_checks(kind != "cond"):
      actual = jax.jit(jax.grad(lambda w: jnp.sin(mapped(w, y0)).sum()))(w)
    self.check(actual, expected)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
