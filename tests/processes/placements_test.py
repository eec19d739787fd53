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

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(8)

PLACES = [
    "uncommitted", "one_device", "replicated", "sharded", "reversed", "part"]


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

  def setUp(self):
    super().setUp()
    if jax.device_count() < 8:
      self.skipTest("needs 8 devices")
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


if __name__ == "__main__":
  absltest.main(testLoader=jtu.JaxTestLoader())
