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

from absl.testing import absltest, parameterized

import jax
import jax.numpy as jnp
from jax import lax
from jax import test_util as jtu
from jax.config import config
from jax.experimental.ode import odeint

config.parse_flags_with_absl()


_TRANSFORMATIONS = {
    "grad": jax.grad,
    "jit_grad": lambda f: jax.jit(jax.grad(f)),
    "grad_jit": lambda f: jax.grad(jax.jit(f)),
    "vmap_grad": lambda f: lambda k, i: jax.vmap(jax.grad(f))(
        k[None], i[None])[0],
    "grad_vmap": lambda f: jax.grad(
        lambda k, i: jax.vmap(f)(k[None], i[None])[0]),
    "scan_grad": lambda f: lambda k, i: lax.scan(
        lambda c, i: (c, jax.grad(f)(k, i)), 0, i[None])[1][0],
}


class ODETest(jtu.JaxTestCase):

  @parameterized.named_parameters(
      {"testcase_name": f"_{name}_{captured}", "transformation": name,
       "captured": captured}
      for name in _TRANSFORMATIONS for captured in (True, False))
  def test_int_beside_what_is_differentiated(self, transformation, captured):
    # The solution is exp(-k table[i] t).
    table, ts = jnp.array([9., .5, 9.]), jnp.array([0., 2.])
    def f(k, i):
      if captured:
        return odeint(lambda y, t: -k * table[i] * y, 1., ts)[-1]
      return odeint(lambda y, t, k, i: -k * table[i] * y, 1., ts, k, i)[-1]

    ans = _TRANSFORMATIONS[transformation](f)(jnp.array(.7), jnp.array(1))
    self.assertAllClose(ans, -jnp.exp(-.7), check_dtypes=False, rtol=1e-4)

  def test_captured_pytree_of_every_kind(self):
    def f(k):
      params = {"k": k, "sign": jnp.array([False, True]), "unused": k}
      def dynamics(y, t):
        return {"y": -params["k"] * y["y"] * jnp.where(
            params["sign"], 1., 0.).sum()}
      return odeint(dynamics, {"y": 1.}, jnp.array([0., 1.]))["y"][-1]

    for g in (jax.grad(f), jax.jit(jax.grad(f)), jax.grad(jax.jit(f))):
      self.assertAllClose(g(.7), -jnp.exp(-.7), check_dtypes=False, rtol=1e-4)

  def test_gradient_in_the_times_and_second_order(self):
    f = lambda k, t: odeint(lambda y, s: -k * y, 1., jnp.stack([0. * t, t]))[-1]
    self.assertAllClose(jax.grad(f, 1)(.7, 1.), -.7 * jnp.exp(-.7),
                        check_dtypes=False, rtol=1e-4)
    self.assertAllClose(jax.grad(jax.grad(f))(.7, 1.), jnp.exp(-.7),
                        check_dtypes=False, rtol=1e-3)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
