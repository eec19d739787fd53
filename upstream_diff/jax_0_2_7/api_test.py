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

from functools import partial
import gc
import weakref

from absl.testing import absltest, parameterized

import jax
import jax.numpy as jnp
from jax import core
from jax import lax
from jax import test_util as jtu
from jax.config import config

config.parse_flags_with_absl()


# A root finder with either kind of rule. Both use the implicit function theorem
# and work for any hoisted values.

def _newton(f, x0, *aux):
  def step(_, x):
    return x - f(x, *aux) / jax.grad(f)(x, *aux)
  return lax.fori_loop(0, 20, step, x0)

_root_vjp = jax.custom_vjp(_newton, nondiff_argnums=(0,))

def _root_vjp_fwd(f, x0, *aux):
  x = _root_vjp(f, x0, *aux)
  return x, (x, aux)

def _root_vjp_bwd(f, res, x_bar):
  x, aux = res
  _, vjp_aux = jax.vjp(lambda *aux: f(x, *aux), *aux)
  return (jnp.zeros_like(x), *vjp_aux(-x_bar / jax.grad(f)(x, *aux)))

_root_vjp.defvjp(_root_vjp_fwd, _root_vjp_bwd)

_root_jvp = jax.custom_jvp(_newton, nondiff_argnums=(0,))

@_root_jvp.defjvp
def _root_jvp_rule(f, primals, tangents):
  x = _root_jvp(f, *primals)
  _, f_dot = jax.jvp(lambda *aux: f(x, *aux), primals[1:], tangents[1:])
  return x, -f_dot / jax.grad(f)(x, *primals[1:])

def _find_root(root, f, x0):
  converted, aux = jax.closure_convert(f, x0)
  return root(converted, x0, *aux)

# Transformations of a function of a float and of an array of integers.
_TRANSFORMATIONS = {
    "grad": jax.grad,
    "jit_grad": lambda f: jax.jit(jax.grad(f)),
    "grad_jit": lambda f: jax.grad(jax.jit(f)),
    "vmap_grad": lambda f: lambda a, i: jax.vmap(jax.grad(f))(
        a[None], i[None])[0],
    "grad_vmap": lambda f: jax.grad(
        lambda a, i: jax.vmap(f)(a[None], i[None])[0]),
    "scan_grad": lambda f: lambda a, i: lax.scan(
        lambda c, i: (c, jax.grad(f)(a, i)), 0, i[None])[1][0],
    "grad_scan": lambda f: jax.grad(lambda a, i: lax.scan(
        lambda c, i: (c, f(a, i)), 0, i[None])[1][0]),
    "grad_remat": lambda f: jax.grad(jax.remat(f)),
}


class CustomJVPTest(jtu.JaxTestCase):

  def test_closure_convert_second_derivative(self):
    sqrt = lambda a: _find_root(_root_jvp, lambda x: x ** 2 - a, 1.)
    self.assertAllClose(jax.jvp(sqrt, (9.,), (1.,))[1], 1 / 6,
                        check_dtypes=False)
    self.assertAllClose(jax.grad(jax.grad(sqrt))(9.), -1 / 108,
                        check_dtypes=False)


class CustomVJPTest(jtu.JaxTestCase):

  def test_closure_convert(self):
    sqrt = lambda a: _find_root(_root_vjp, lambda x: x ** 2 - a, 1.)
    self.assertAllClose(sqrt(9.), 3., check_dtypes=False)
    self.assertAllClose(jax.grad(sqrt)(9.), 1 / 6, check_dtypes=False)

  @parameterized.named_parameters(
      {"testcase_name": f"_{name}_{way}", "transformation": name, "way": way}
      for name in _TRANSFORMATIONS for way in ("float", "int", "bool"))
  def test_closure_convert_captured(self, transformation, way):
    # The derivative of sqrt(a c) is sqrt(c / a) / 2.
    def f(a, i):
      # With i = [1], these are 2, 9 and 3. Each captures a, and a value that is
      # traced where f is transformed.
      if way == "float":
        b = 2. * i.astype(float)
        factor = lambda: b.sum()
      elif way == "int":
        factor = lambda: jnp.array([4., 9.])[i].sum()
      else:
        m = i > 1
        factor = lambda: jnp.where(m, 4., 3.).sum()
      return _find_root(_root_vjp, lambda x: x ** 2 - a * factor(), 1.)

    a, i = jnp.array(4.), jnp.array([1])
    c = {"float": 2., "int": 9., "bool": 3.}[way]
    # The checks of this JAX do not know the type of cotangents of integers.
    with core.skipping_checks():
      ans = _TRANSFORMATIONS[transformation](f)(a, i)
    self.assertAllClose(ans, .5 * (c / 4.) ** .5, check_dtypes=False,
                        rtol=1e-5)

  def test_closure_convert_hoists_every_tracer_once(self):
    @jax.jit
    def f(x, i, m):
      converted, aux = jax.closure_convert(
          lambda y: jnp.where(m, y * x + x, y * i), 1.)
      self.assertLen(aux, 3)
      return converted(2., *aux)

    self.assertAllClose(f(3., 4, True), 9., check_dtypes=False)
    self.assertAllClose(f(3., 4, False), 8., check_dtypes=False)

  def test_closure_convert_keeps_constants(self):
    c = jnp.arange(3.)
    converted, aux = jax.closure_convert(lambda x: x * c, 1.)
    self.assertEqual(aux, [])
    self.assertAllClose(converted(2.), 2 * c)

  def test_closure_convert_kwargs(self):
    def f(a):
      converted, aux = jax.closure_convert(
          lambda x, *, y: x["x"] * y - a, {"x": 1.}, y=2.)
      return converted({"x": 3.}, *aux, y=4.)
    self.assertAllClose(jax.jit(f)(5.), 7., check_dtypes=False)

  @parameterized.parameters(
      lambda f, aux: f(1., 2., *aux), lambda f, aux: f([1.], *aux),
      lambda f, aux: f(1.), lambda f, aux: f(jnp.ones(2), *aux),
      lambda f, aux: f(1, *aux), lambda f, aux: f(1., *aux, y=1.))
  def test_closure_convert_mismatch(self, call):
    def f(a):
      return call(*jax.closure_convert(lambda x: x * a, 1.))
    with self.assertRaisesRegex(
        TypeError, "The inputs to the closure produced by closure_convert"):
      jax.jit(f)(3.)

  def test_closure_convert_again_costs_no_trace(self):
    traces = []
    def f(x):
      traces.append(x)
      return 2. * x
    first, _ = jax.closure_convert(f, 1.)
    second, _ = jax.closure_convert(f, 1.)
    self.assertIs(first, second)
    self.assertLen(traces, 1)

  def test_closure_convert_retains_nothing(self):
    def convert(c):
      fun = lambda x: x + 1.
      jax.closure_convert(fun, c)
      return weakref.ref(fun)
    ref = convert(1.)
    gc.collect()
    self.assertIsNone(ref())

  def test_closure_convert_any_callable(self):
    class Unhashable:
      __hash__ = None
      def __call__(self, x):
        return 2. * x
    for f in (Unhashable(), partial(jnp.multiply, 2.),
              jax.jit(lambda x: 2 * x)):
      converted, aux = jax.closure_convert(f, 1.)
      self.assertAllClose(converted(3., *aux), 6., check_dtypes=False)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
