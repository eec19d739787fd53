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

"""odeint beyond upstream's tests: effects, references, second derivatives."""

from functools import partial

from absl.testing import absltest
import numpy as np

import jax
import jax.numpy as jnp
from jax import export
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

jax.config.parse_flags_with_absl()

T = np.array([0., 1.])


class OdeintMoreTest(jtu.JaxTestCase):

  def test_grads_against_finite_differences(self):
    def f(y0, theta, i):
      def dynamics(y, t):
        return jnp.sin(theta["w"][i] @ y + theta["b"] * t)
      return odeint(dynamics, y0, jnp.array([0., .3, 1.]))

    rng = self.rng()
    theta = {"w": jnp.asarray(rng.randn(2, 3, 3)), "b": jnp.asarray(.3)}
    y0 = jnp.asarray(rng.randn(3))
    tol = 1e-1 if jtu.num_float_bits(np.float64) == 32 else 1e-3
    jtu.check_grads(partial(f, i=jnp.array(1)), (y0, theta), modes=["rev"],
                    order=2, atol=tol, rtol=tol)

  def test_grad_allow_int(self):
    f = lambda y0, i: odeint(lambda y, t, i: -y * i, y0, jnp.array(T), i)[-1]
    y0_bar, i_bar = jax.grad(f, argnums=(0, 1), allow_int=True)(1., 2)
    self.assertAllClose(y0_bar, jnp.exp(-2.), check_dtypes=False, rtol=1e-5)
    self.assertEqual(i_bar.dtype, jax.dtypes.float0)

  def test_symbolic_number_of_times(self):
    n, = export.symbolic_shape("n", constraints=["n >= 2"])
    t = jnp.linspace(0., 1., 3)
    solve = jax.jit(lambda k, t: odeint(lambda y, t: -k * y, 1., t))
    exported = export.export(solve)(*[
        jax.ShapeDtypeStruct(shape, t.dtype) for shape in ((), (n,))])
    self.assertAllClose(exported.call(t[1], t), jnp.exp(-t[1] * t), rtol=1e-5)

  def test_effects(self):
    seen = []
    def dynamics(y, t):
      jax.debug.callback(lambda t: seen.append(float(t)), t, ordered=True)
      return -y
    solve = lambda y0: odeint(dynamics, y0, jnp.array(T))[-1]
    for f in (solve, jax.jit(solve), jax.grad(solve)):
      seen.clear()
      f(1.)
      jax.effects_barrier()
      self.assertEqual(seen[0], 0.)
      self.assertGreater(len(seen), 6)

  def test_adjoint_takes_all_options(self):
    def num_calls(**options):
      seen = []
      def dynamics(y, t):
        jax.debug.callback(lambda: seen.append(0))
        return jnp.sin(5. * t) * y
      jax.grad(lambda y0: odeint(dynamics, y0, jnp.array(T), **options)[-1])(1.)
      jax.effects_barrier()
      return len(seen)
    default = num_calls()
    for options in dict(rtol=.1), dict(atol=.1), dict(mxstep=1):
      self.assertLess(4 * num_calls(**options), default)
    self.assertGreater(num_calls(hmax=1e-3), 40 * default)

  def test_captured_ref(self):
    calls = jax.new_ref(jnp.zeros((), 'int32'))
    def dynamics(y, t):
      calls[...] += 1
      return -y
    solve = lambda y0: odeint(dynamics, y0, jnp.array(T))[-1]
    self.assertAllClose(jax.grad(solve)(1.), jnp.exp(-1.), check_dtypes=False,
                        rtol=1e-5)
    self.assertGreater(int(calls[...]), 6)

  def test_grad_of_vmap_with_complex_state(self):
    # See https://github.com/jax-ml/jax/issues/8783
    flip = jnp.array([[0., -1j], [-1j, 0.]])
    def loss(a, bs, integer):
      def solve(b):
        dynamics = lambda y, t: (a * b * integer) * flip @ y
        ys = odeint(dynamics, jnp.eye(2, dtype=complex), jnp.array(T),
                    rtol=1e-6, atol=1e-6)
        return ys[-1, 0, 0].real
      return jnp.sum(jax.vmap(solve)(bs))

    bs = jnp.array([.3, .6])
    with jax.numpy_dtype_promotion('standard'):
      ans = jax.jit(jax.grad(loss))(.7, bs, 2)  # The solution is cos(2 a b).
    self.assertAllClose(ans, jnp.sum(-2 * bs * jnp.sin(2 * .7 * bs)),
                        check_dtypes=False, rtol=1e-3)

  def test_leaks_no_tracer(self):
    def f(theta, i):
      dynamics = lambda y, t: -theta * jnp.array([9., .5])[i] * y
      return odeint(dynamics, 2., jnp.array(T))[-1]

    with jax.checking_leaks():
      for grad_f in (jax.grad(f), jax.jit(jax.grad(f)), jax.grad(jax.jit(f))):
        self.assertAllClose(grad_f(.7, jnp.array(1)), -jnp.exp(-.35),
                            check_dtypes=False, rtol=1e-5)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
