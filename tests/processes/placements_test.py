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

"""odeint with states, arguments and captured arrays on different devices.

A captured array is an argument of the compiled solver, if it is not committed
to devices, or to the devices of what is passed, in their order. Otherwise it is
a constant, as on stock JAX. So a captured array never chooses the devices, and
there is no error where a constant has none.
"""

import itertools
import os

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P

import own_process

jax.config.parse_flags_with_absl()
if __name__ == "__main__":
  jtu.request_cpu_devices(8)

_ALL_TESTS = bool(os.environ.get("JAX_PATCH_ALL_TESTS"))

LEFT_OUT = "" if _ALL_TESTS else "36 gradients with captured arrays"

PLACES = [
    "uncommitted", "one_device", "replicated", "sharded", "reversed", "part"]


def _placed(x, place):
  devices = jax.devices()
  sharding = lambda devices, spec: NamedSharding(
      jax.sharding.Mesh(np.array(devices), ("x",)), spec)
  return {
      "uncommitted": jnp.asarray,
      "one_device": lambda x: jax.device_put(x, devices[-1]),
      "replicated": lambda x: jax.device_put(x, sharding(devices, P())),
      "sharded": lambda x: jax.device_put(x, sharding(devices, P("x"))),
      "reversed": lambda x: jax.device_put(x, sharding(devices[::-1], P("x"))),
      "part": lambda x: jax.device_put(x, sharding(devices[:4], P("x"))),
  }[place](x)


class PlacementsTest(own_process.EightDevicesTestCase):

  def setUp(self):
    super().setUp()
    dtype = jnp.result_type(float)
    self.y0 = np.linspace(1., 2., 8, dtype=dtype)
    self.k = np.linspace(-1., 1., 8, dtype=dtype)
    self.times = np.array([0., .5, 1.], dtype)
    self.expected = self.y0 * np.exp(-self.k)
    self.devices_of = {
        place: _placed(self.y0, place).devices() for place in PLACES}

  def check(self, y, devices, expected=None):
    self.assertEqual(y.devices(), devices)
    self.assertAllClose(
        y, self.expected if expected is None else expected, check_dtypes=False,
        rtol=1e-5, atol=1e-5)

  @parameterized.parameters(
      *itertools.product(
          PLACES, PLACES, ["eager", "grad_y0"] if _ALL_TESTS else ["eager"]),
      *itertools.product(["uncommitted", "sharded"], PLACES, ["jit", "grad_k"]))
  def test_captured(self, y0, k, mode):
    def solve(y0, k):
      return odeint(lambda y, t: -k * y, y0, self.times)[-1]
    def loss(*args):
      return solve(*args).sum()
    y, k_array = _placed(self.y0, y0), _placed(self.k, k)
    devices = self.devices_of[y0]
    if mode == "eager":
      self.check(solve(y, k_array), devices)
    elif mode == "jit":
      self.check(jax.jit(lambda y0: solve(y0, k_array))(y), devices)
    elif mode == "grad_y0":
      self.check(jax.grad(loss)(y, k_array), devices, np.exp(-self.k))
    else:  # Both are arguments then, as on stock JAX.
      try:
        jnp.add(y, k_array)
      except ValueError:
        with self.assertRaisesRegex(ValueError, "incompatible devices"):
          jax.grad(loss, 1)(y, k_array)
        return
      devices = self.devices_of[y0 if k == "uncommitted" else k]
      self.check(jax.grad(loss, 1)(y, k_array), devices, -self.expected)

  @parameterized.product(
      passed=["times", "argument"], place=["one_device", "replicated"],
      captured=PLACES)
  def test_times_and_argument(self, passed, place, captured):
    y0, times, k = map(jnp.asarray, (self.y0, self.times, self.k))
    if passed == "times":
      times = _placed(times, place)
    else:
      k = _placed(k, place)
    c = _placed(np.ones_like(self.k), captured)
    y = odeint(lambda y, t, k: -k * c * y, y0, times, k)[-1]
    self.check(y, self.devices_of[place])

  # The result is sharded as it is if the array is passed. A constant would
  # leave it replicated, and each device with a copy of the whole.
  def test_sharding_comes_from_a_captured_array(self):
    y0, k = _placed(self.y0, "replicated"), _placed(self.k, "sharded")
    y = odeint(lambda y, t: -k * y, y0, self.times)[-1]
    by_hand = odeint(lambda y, t, k: -k * y, y0, self.times, k)[-1]
    self.assertTrue(y.sharding.is_equivalent_to(by_hand.sharding, 1))
    self.check(y, self.devices_of["sharded"])

  # Also where the arrays that say which devices are being differentiated.
  @parameterized.parameters("y0", "k")
  def test_new_committed_arrays_compile_nothing(self, wrt):
    def loss(y0, k, c):
      return odeint(lambda y, t: -k * c * y, y0, self.times)[-1].sum()
    def step(scale):
      c = _placed(scale * np.ones_like(self.k), "sharded")
      k = _placed(self.k, "sharded")
      if wrt == "y0":
        y0 = _placed(self.y0, "sharded")
        return jax.grad(loss, 0)(y0, k, c)
      return jax.grad(loss, 1)(jnp.asarray(self.y0), k, c)
    step(1.)
    step(2.)
    with jtu.count_jit_compilation_cache_miss() as count:
      step(3.)
    self.assertEqual(count(), 0)


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
else:
  PlacementsScriptTest = own_process.test_of_script(__file__)
