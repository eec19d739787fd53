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
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import core
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()


# A root finder with either kind of rule, by the implicit function theorem.

def _newton(f, x0, *aux):
  def step(_, x):
    return x - jnp.linalg.solve(jax.jacrev(f)(x, *aux), f(x, *aux))
  return lax.fori_loop(0, 20, step, x0)

_root_vjp = jax.custom_vjp(_newton, nondiff_argnums=(0,))

def _root_vjp_fwd(f, x0, *aux):
  x = _root_vjp(f, x0, *aux)
  return x, (x, aux)

def _root_vjp_bwd(f, res, x_bar):
  x, aux = res
  adjoint = jnp.linalg.solve(jax.jacrev(f)(x, *aux).T, -x_bar)
  _, vjp_aux = jax.vjp(lambda *aux: f(x, *aux), *aux)
  return jnp.zeros_like(x), *vjp_aux(adjoint)

_root_vjp.defvjp(_root_vjp_fwd, _root_vjp_bwd)

_root_jvp = jax.custom_jvp(_newton, nondiff_argnums=(0,))

@_root_jvp.defjvp
def _root_jvp_rule(f, primals, tangents):
  x = _root_jvp(f, *primals)
  _, f_dot = jax.jvp(lambda *aux: f(x, *aux), primals[1:], tangents[1:])
  return x, -jnp.linalg.solve(jax.jacrev(f)(x, *primals[1:]), f_dot)

def _find_root(root, f, x0):
  converted, aux = jax.closure_convert(f, x0)
  return root(converted, x0, *aux)

def _root_of_table(root, a, i):
  # The square root of a, 4 a or 9 a.
  f = lambda x: x ** 2 - a * jnp.array([1., 4., 9.])[i]
  return _find_root(root, f, jnp.ones(1))[0]


class ClosureConvertTest(jtu.JaxTestCase):

  @parameterized.parameters(
      *[(kind, "jit") for kind in ("float", "complex", "int", "bool", "key")],
      *[("int", trace) for trace in ("vmap", "grad", "grad_of_vmap")])
  def test_hoists_every_tracer(self, kind, trace):
    # See https://github.com/jax-ml/jax/pull/14760, and issue 21116 there.
    def f(theta, c):
      def fun(x):
        v = jax.random.uniform(c) if kind == "key" else c.real
        return x * theta * v.astype(theta.dtype)
      x = np.ones((), 'float32')
      converted, aux = jax.closure_convert(fun, x)
      self.assertLen(aux, sum(isinstance(c, core.Tracer) for c in (theta, c)))
      return converted(x, *aux)

    transform = dict(
        jit=jax.jit(f), grad=lambda t, c: t * jax.grad(f)(t, c),
        vmap=lambda t, c: jax.vmap(f)(t[None], c[None])[0],
        grad_of_vmap=lambda t, c: t * jax.grad(
            lambda t: jax.vmap(f, (None, 0))(t, c[None])[0])(t))[trace]
    theta = jnp.float32(3)
    c = dict(float=jnp.float32(2), complex=jnp.complex64(2j), int=jnp.int32(2),
             bool=jnp.array(True), key=jax.random.key(0))[kind]
    self.assertAllClose(transform(theta, c), f(theta, c), rtol=1e-5)

  def test_hoists_each_tracer_once(self):
    @jax.jit
    def f(c):
      inner = jax.jit(lambda x: x + c)
      fun = lambda x: inner(c * x) + lax.cond(c > 0, lambda: c, lambda: 2 * c)
      converted, aux = jax.closure_convert(fun, 1.)
      self.assertLen(aux, 1)
      self.assertIs(aux[0], c)
      return converted(3., *aux)

    self.assertAllClose(f(2.), 10., check_dtypes=False)

  def test_int_in_forward_rule(self):
    solve = jax.jit(partial(_root_of_table, _root_jvp))
    for transform in jax.grad, jax.jacfwd:
      self.assertAllClose(transform(solve)(1., 2), 1.5, check_dtypes=False,
                          rtol=1e-5)
    self.assertAllClose(jax.jit(jax.hessian(solve))(1., 2), -.75,
                        check_dtypes=False, rtol=1e-4)

  def test_nested(self):
    def loss(a, i):
      def inner(z):
        f = lambda x: x ** 2 - z * a[i]
        return _find_root(_root_vjp, f, jnp.ones(1))
      converted, aux = jax.closure_convert(inner, jnp.ones(1))
      f = lambda z: converted(z, *aux) - a[i + 1]
      return _find_root(_root_jvp, f, jnp.ones(1))[0]

    # sqrt(z a[i]) = a[i + 1]
    a = jnp.array([5., 4., 3.])
    expected = jnp.array([0., -9 / 16, 6 / 4])
    for grad_f in (jax.grad(loss), jax.jit(jax.grad(loss)),
                   jax.grad(jax.jit(loss))):
      self.assertAllClose(grad_f(a, 1), expected, check_dtypes=False, rtol=1e-4)

  @parameterized.named_parameters(
      ("partial", lambda c: partial(lambda c, x: c * x, c)),
      ("jit", lambda c: jax.jit(lambda x: c * x)),
      ("vjp", lambda c: jax.vjp(lambda y: c * y, 1.)[1]))
  def test_callables(self, make):
    @jax.jit
    def f(c):
      converted, aux = jax.closure_convert(make(c), 1.)
      self.assertLen(aux, 1)
      return jax.tree.leaves(converted(3., *aux))[0]

    self.assertAllClose(f(2.), 6., check_dtypes=False)

  def test_again_costs_no_trace(self):
    num_traces = 0
    def fun(x):
      nonlocal num_traces
      num_traces += 1
      return 2 * x
    first, _ = jax.closure_convert(fun, 1.)
    second, _ = jax.closure_convert(fun, 2.)
    self.assertEqual(num_traces, 1)
    self.assertEqual(first, second)
    third, _ = jax.closure_convert(fun, 1)
    self.assertEqual(num_traces, 2)
    self.assertNotEqual(first, third)

  def test_caches_no_tracer(self):
    # A second trace of the same function must not meet tracers of the first.
    c = None
    def fun(x):
      return c * x

    def f(c_):
      nonlocal c
      c = c_
      converted, aux = jax.closure_convert(fun, 1.)
      return converted(1., *aux)

    self.assertAllClose(jax.jit(f)(2.), 2., check_dtypes=False)
    self.assertAllClose(jax.jit(jax.grad(f))(3.), 1., check_dtypes=False)

  def test_leaks_no_tracer(self):
    grad = jax.grad(partial(_root_of_table, _root_vjp))
    with jax.checking_leaks():
      for f in grad, jax.jit(grad), jax.vmap(grad, (None, None), axis_size=1):
        self.assertAllClose(f(1., jnp.array(1)).ravel()[0], 1.,
                            check_dtypes=False, rtol=1e-5)

  def test_retains_nothing(self):
    if config.use_simplified_jaxpr_constants.value:
      self.skipTest("JAX keeps the literals of loops that are not jitted")
    refs = []
    def loss(a, c):
      f = lambda x: x ** 2 - a * c
      refs.extend(map(weakref.ref, (a, c, f)))
      return jnp.sum(_find_root(_root_vjp, f, jnp.ones(3)))

    grad_f = jax.grad(loss, (0, 1))
    for f in loss, jax.jit(loss), grad_f, jax.jit(grad_f):
      f(jnp.full(3, 4.), jnp.ones(3))
    gc.collect()
    self.assertEqual([ref() for ref in refs], [None] * 12)

    fun = lambda x: 2 * x
    ref, converted = weakref.ref(fun), jax.closure_convert(fun, 1.)
    del fun
    gc.collect()
    self.assertIsNone(ref())
    del converted

  def test_fresh_closures_compile_nothing(self):
    solve = jax.jit(_root_vjp, static_argnums=0)
    def loss(a):
      f = lambda x: x ** 2 - jax.nn.softplus(a)
      return jnp.sum(_find_root(solve, f, jnp.ones(2)))

    def check(a):
      expected = jax.grad(lambda a: jnp.sum(jnp.sqrt(jax.nn.softplus(a))))(a)
      self.assertAllClose(jax.grad(loss)(a), expected, rtol=1e-4)

    check(jnp.array([1., 2.]))
    with jtu.count_jit_and_pmap_lowerings() as count:
      check(jnp.array([3., 4.]))
    self.assertEqual(count(), 0)

  def test_equal_callables(self):
    # They can be unhashable, or be equal and yet capture other values.
    class Scale:
      def __init__(self, factor):
        self.factor = factor
      def __call__(self, x):
        return self.factor * x
      def __eq__(self, other):
        return True
    def f(c):
      converted, aux = jax.closure_convert(Scale(c), 1.)
      return converted(1., *aux)

    for hash_fun in None, lambda self: 0:
      Scale.__hash__ = hash_fun
      self.assertAllClose(f(jnp.float32(2)), 2., check_dtypes=False)
      self.assertAllClose(f(jnp.float32(3)), 3., check_dtypes=False)
      self.assertAllClose(jax.jit(jax.grad(f))(5.), 1., check_dtypes=False)

  def test_structure_mismatch(self):
    @jax.jit
    def f(c):
      fun = lambda x, *, k=1.: c * x[0] * k
      converted, aux = jax.closure_convert(fun, [1.], k=1.)
      for args, kwargs, msg in [
          ((1., *aux), {}, "structure"),
          (([1.], *aux), {}, "structure"),
          (([1.], aux), {"k": 1.}, "structure"),
          (([1.],), {"k": 1.}, r"takes 1 arg.* 1 hoisted .* but got 1 in all"),
          ((), {"k": 1.}, r"takes 1 arg.* 1 hoisted .* but got 0 in all")]:
        with self.assertRaisesRegex(TypeError, msg):
          converted(*args, **kwargs)
      return converted([2.], *aux, k=3.)

    self.assertAllClose(f(5.), 30., check_dtypes=False)

  def test_other_types_warn(self):
    # See https://github.com/jax-ml/jax/issues/6867
    with config.enable_x64(False), config.enable_checks(False):
      converted, _ = jax.closure_convert(
          lambda z, *, k: z * k["a"] / z.shape[0], jnp.ones(3), k={"a": 1.})
      with self.assertWarnsRegex(
          FutureWarning,
          r"z is of type float32\[6\] instead of float32\[3\] and "
          r"k\['a'\] is of type int32\[\] instead of float32\[\]"):
        out = converted(jnp.arange(6.), k={"a": 2})
    # What was traced for the shape of the example arguments.
    self.assertAllClose(out, 2 * jnp.arange(6.) / 3, check_dtypes=False)
    # A weak type is no other type. Warnings are errors here.
    jax.closure_convert(jnp.sin, 1.)[0](jnp.ones((), jnp.result_type(float)))

  @parameterized.parameters("scan", "custom_vjp", "vmap")
  def test_to_pytree_is_an_argument_like_any_other(self, kind):
    def make(a, n):
      return lambda x: jnp.sin(a * x) * n.astype(x.dtype)
    call = lambda f, x: f(x)
    custom = jax.custom_vjp(call)
    custom.defvjp(lambda f, x: (f(x), (f, x)),
                  lambda res, g: jax.vjp(call, *res)[1](g))
    transformed = dict(
        scan=lambda f, x: lax.scan(lambda x, _: (f(x), 0.), x, length=1)[0],
        vmap=lambda f, x: jax.vmap(call, (None, 0))(f, x[None])[0],
        custom_vjp=custom)[kind]
    grad = jax.jit(jax.grad(lambda f, x: jnp.sum(transformed(f, x) ** 2),
                            (0, 1), allow_int=True))

    def check(n):
      a, x, n = jnp.arange(3.) + n, jnp.full(3, .5), jnp.int32(n)
      f = jax.custom_derivatives.closure_to_pytree(make(a, n), x)
      f_bar, x_bar = grad(f, x)
      self.assertEqual(jax.tree.structure(f_bar), jax.tree.structure(f))
      a_bar, = [c for c in jax.tree.leaves(f_bar) if c.dtype == a.dtype]
      expected = jax.grad(lambda a, x: jnp.sum(make(a, n)(x) ** 2), (0, 1))
      self.assertAllClose((a_bar, x_bar), expected(a, x), rtol=1e-5)

    check(1)
    with jtu.count_jit_and_pmap_lowerings() as count:
      check(2)
    self.assertEqual(count(), 0)

  def test_to_pytree_leaves(self):
    # Also those which are concrete, but for mutable ones.
    a, b, ref = jnp.ones(3), np.arange(3.), jax.new_ref(jnp.zeros(3))
    scalar, mutable = jnp.array(2.), np.array(3.)
    def fun(x):
      ref[...] += lax.cond(x[0] > 0, lambda: 2. * b, lambda: a)
      return a * x * b * scalar * mutable, scalar, mutable
    f = jax.custom_derivatives.closure_to_pytree(fun, a)
    self.assertLen(jax.tree.leaves(f), 4)
    out = jax.jit(lambda f: f(a))(jax.tree.map(lambda x: -x, f))
    self.assertAllClose(out, (-6. * b, -2., 3.), check_dtypes=False)
    self.assertAllClose(ref[...], -2. * b, check_dtypes=False)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
