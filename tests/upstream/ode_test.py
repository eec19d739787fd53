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

import math
import re

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(2)


# The solution of dy/dt = -k y is y0 exp(-k t). Here k is theta * rate, and rate
# comes from a value that is not differentiable. A pair is (value, rate of it).
_RATES = {
    "int": (lambda: jnp.int32(1), lambda i: jnp.array([9., .5, 9.])[i]),
    "bool": (lambda: jnp.array([True, False]),
             lambda m: jnp.where(m, jnp.array([.5, 9.]), 0.).sum()),
    "key": (lambda: jax.random.key(0),
            lambda k: jax.random.uniform(k, dtype=jnp.result_type(float))),
}

_TRANSFORMS = {
    "grad": jax.grad,
    "jit_grad": lambda f: jax.jit(jax.grad(f)),
    "grad_vmap": lambda f: jax.grad(lambda th, v: jax.vmap(f, (None, 0))(
        th, v[None])[0]),
    "grad_remat": lambda f: jax.grad(jax.checkpoint(f)),
}

_CASES = [("bool", "grad"), ("key", "grad"),
          *[("int", transform) for transform in _TRANSFORMS]]

def _derivative(kind, transform, captured):
  # With respect to theta, and what is expected.
  make, rate = _RATES[kind]
  t1 = 1.5

  def f(theta, value):
    def dynamics(y, t, *args):
      v, = args or (value,)
      return -theta * rate(v) * y
    args = () if captured else (value,)
    return odeint(dynamics, 2., jnp.array([0., t1]), *args)[-1]

  theta, value = jnp.array(.7), make()
  r = rate(value)
  expected = -r * t1 * 2. * jnp.exp(-theta * r * t1)
  return _TRANSFORMS[transform](f)(theta, value), expected


class ODETest(jtu.JaxTestCase):

  @parameterized.parameters(*_CASES)
  def test_derivatives_with_arguments(self, kind, transform):
    # See https://github.com/jax-ml/jax/pull/14760
    self.assertAllClose(*_derivative(kind, transform, captured=False),
                        check_dtypes=False, rtol=1e-4)

  @parameterized.parameters(*_CASES)
  def test_derivatives_with_captured_values(self, kind, transform):
    # See https://github.com/jax-ml/jax/pull/14760
    self.assertAllClose(*_derivative(kind, transform, captured=True),
                        check_dtypes=False, rtol=1e-4)

  def test_all_derivatives_with_int(self):
    def f(y0, ts, theta, i):
      def dynamics(y, t, theta, i):
        return -jnp.array([9., .5])[i] * theta * t * y
      return odeint(dynamics, y0, ts, theta, i)[1:]

    def exact(y0, ts, theta, i):
      rate = jnp.array([9., .5])[i] * theta
      return jnp.outer(jnp.exp(-rate * (ts ** 2 - ts[0] ** 2) / 2)[1:], y0)

    args = (jnp.array([1., 2.]), jnp.array([.1, .5, 1.2]), jnp.array(.7))
    f_ = lambda f: lambda *args: jnp.sum(
        jnp.sin(f(*args, 1)) * jnp.array([[1., 2.], [3., 4.]]))
    ans = jax.jit(jax.grad(f_(f), argnums=(0, 1, 2)))(*args)
    expected = jax.grad(f_(exact), argnums=(0, 1, 2))(*args)
    self.assertAllClose(ans, expected, rtol=1e-4, atol=1e-4)

  def test_adjoint_integrates_only_what_is_differentiated(self):
    n = 9
    matrix = -jnp.eye(n) + .01 * jnp.ones((n, n))

    def max_size(f, *args):
      # Of what the loops of the gradient carry.
      text = jax.jit(jax.grad(f)).lower(*args).as_text()
      return max(math.prod(map(int, shape.split("x")))
                 for line in text.splitlines() if "stablehlo.while" in line
                 for shape in re.findall(r"tensor<([\dx]+)x[a-z]", line))

    ts = jnp.array([0., 1.])
    wrt_y0 = lambda y0, m: odeint(lambda y, t: m @ y, y0, ts)[-1].sum()
    wrt_m = lambda m, y0: wrt_y0(y0, m)
    # A step has seven stages for each element of the state, which is y and its
    # cotangent, and the matrix's if that is differentiated.
    self.assertEqual(max_size(wrt_y0, jnp.ones(n), matrix), 7 * 2 * n)
    self.assertEqual(max_size(wrt_m, matrix, jnp.ones(n)), 7 * (2 * n + n * n))

  def test_derivatives_of_one_call_do_not_mix(self):
    f = jax.jit(lambda a, b: odeint(
        lambda y, t, a, b: -a * y + b, 1., jnp.array([0., 1.]), a, b)[-1])
    _, vjp_a = jax.vjp(lambda a: f(a, .5), 2.)
    _, vjp_b = jax.vjp(lambda b: f(2., b), .5)
    exact = lambda a, b: b / a + (1. - b / a) * jnp.exp(-a)
    self.assertAllClose((*vjp_a(1.), *vjp_b(1.)),
                        jax.grad(exact, (0, 1))(2., .5), check_dtypes=False,
                        rtol=1e-4)

  def test_no_concatenation_fuses_updates(self):
    # XLA's CPU backend confuses two of them in some programs.
    if jtu.jaxlib_version() < (0, 11, 1) or jax.default_backend() != "cpu":
      self.skipTest("reads what the CPU backend compiles")
    def loss(a, b, i):
      dynamics = lambda y, t: .1 * b[i] - a[i] * y - a
      return odeint(dynamics, jnp.ones(3), jnp.array([0., 1.]))[-1].sum()
    grad_f = jax.jit(jax.grad(loss, (0, 1)))
    text = grad_f.lower(jnp.ones(3), jnp.ones(3), 1).compile().as_text()
    self.assertIn("dynamic-update-slice(", text)
    for fused in re.findall(r"^%\S+ \(.*?^}", text, re.M | re.S):
      opcodes = dict(re.findall(r"%(\S+) = \S+ ([a-z-]+)\(", fused))
      for operands in re.findall(r" concatenate\((.*?)\)", fused):
        self.assertNotIn("dynamic-update-slice", {
            opcodes[x] for x in re.findall(r"%([\w.-]+)", operands)})

  def test_fresh_closure_compiles_nothing(self):
    ts = jnp.array([0., 1.])
    def solve(k, a):
      dynamics = lambda y, t: -k * jax.nn.softplus(a) * jax.nn.silu(y)
      return jnp.sum(odeint(dynamics, jnp.ones(3), ts)[-1])

    args = jnp.array(2.), jnp.array([1., 2., 3.])
    for f in (solve, jax.grad(solve)):
      for _ in range(2):
        f(*args)
      with jtu.count_jit_and_pmap_lowerings() as count:
        f(*args)
      self.assertEqual(count(), 0)

  def test_captured_array_chooses_no_devices(self):
    if jax.device_count() < 2:
      self.skipTest("needs two devices")
    y0, ts = jax.device_put((1., jnp.array([0., 1.])), jax.devices()[0])
    def solve(k, *args):
      return odeint(lambda y, t, *args: -k * y, *args)[-1]
    k, l = jax.device_put((2., 3.), jax.devices()[1])
    self.assertAllClose(solve(k, y0, ts), jnp.exp(-2.), check_dtypes=False,
                        rtol=1e-5)
    for i in range(3):  # An argument is on the same device.
      args = [1., np.array([0., 1.]), np.ones(2)]
      args[i] = jax.device_put(args[i], jax.devices()[1])
      solve(k, *args)
      with jtu.count_jit_and_pmap_lowerings() as count:
        self.assertAllClose(solve(l, *args), np.exp(-3.), check_dtypes=False,
                            rtol=1e-5)
      self.assertEqual(count(), 0)

  def test_in_shard_map(self):
    if jax.device_count() < 2:
      self.skipTest("needs two devices")
    spec = jax.P("i")
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    solve = jax.shard_map(
        lambda k, y0: odeint(lambda y, t: -k * y, y0, jnp.array([0., 1.]))[-1],
        mesh=mesh, in_specs=(jax.P(), spec), out_specs=spec)
    grad_f = jax.jit(jax.grad(lambda k, y0: solve(k, y0).sum()))
    self.assertAllClose(grad_f(2., jnp.array([1., 3.])), -4. * jnp.exp(-2.),
                        check_dtypes=False, rtol=1e-5)

  @parameterized.parameters(
      ([0., 1.], TypeError, "t must be an array of floats"),
      (jnp.float32(1.), ValueError, r"one-dimensional .* of shape \(\)"),
      (np.ones((2, 1), 'float32'), ValueError, r"of shape \(2, 1\)"),
      (np.ones(0, 'float32'), ValueError, "at least one time"),
      (np.ones(1, 'float32'), TypeError, "arrays or scalars, but got a", "a"))
  def test_errors(self, ts, error, message, *args):
    with self.assertRaisesRegex(error, message):
      odeint(lambda y, t, *args: -y, 1., ts, *args)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
