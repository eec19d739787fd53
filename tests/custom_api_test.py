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

import functools
from functools import partial
import gc
import weakref

from absl.testing import absltest, parameterized
import numpy as np

import jax
import apply_patch  # noqa: F401
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()


# A root finder with either kind of rule. Both use the implicit function theorem
# and work for any hoisted values.

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

# A higher-order function whose rule calls what it was given at a larger shape
# than it was converted for.

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_at_six(f, *aux):
  return jnp.sum(f(jnp.arange(6.), *aux))

def _sum_at_six_fwd(f, *aux):
  return 0. * aux[0], aux  # It is the backward rule that first calls f.

def _sum_at_six_bwd(f, aux, g):
  _, vjp = jax.vjp(lambda *aux: jnp.sum(f(jnp.arange(6.), *aux)), *aux)
  return vjp(g)

_sum_at_six.defvjp(_sum_at_six_fwd, _sum_at_six_bwd)

class _Capture:
  # Callable that refuses to be hashed and believes that it equals any other.
  __hash__ = None

  def __init__(self, value):
    self.value = value

  def __call__(self, x):
    return x * self.value

  def __eq__(self, other):
    return True

class _Equal(_Capture):

  def __hash__(self):
    return 0


class CustomJVPTest(jtu.JaxTestCase):

  def test_closure_convert_docstring_example(self):
    def loss(a):
      f = lambda x: x ** 2 - a
      return jnp.sum(_find_root(_root_jvp, f, jnp.ones(2)))

    a = jnp.array([4., 9.])
    self.assertAllClose(jax.grad(loss)(a), jnp.array([1 / 4, 1 / 6]),
                        check_dtypes=False, rtol=1e-5)
    self.assertAllClose(jax.hessian(loss)(a), jnp.diag(-a ** -1.5 / 4),
                        check_dtypes=False, rtol=1e-4)

  def test_closure_convert_int_capture_forward_mode(self):
    def solve(a, i):
      f = lambda x: x ** 2 - a * jnp.array([4., 9.])[i]
      return _find_root(_root_jvp, f, jnp.ones(1))[0]

    _, x_dot = jax.jit(lambda a, i: jax.jvp(lambda a: solve(a, i), (a,), (1.,))
                       )(1., 1)
    self.assertAllClose(x_dot, 1.5, check_dtypes=False, rtol=1e-5)

  def test_maybe_perturbed_int_regression(self):
    # See https://github.com/jax-ml/jax/discussions/9951. An integer is hoisted
    # like any other tracer, and derivatives with respect to the rest go on.
    def solve(a, i):
      f = lambda x: x ** 2 - a * i
      _, aux = jax.closure_convert(f, jnp.ones(1))
      self.assertLen(aux, 2)
      return _find_root(_root_jvp, f, jnp.ones(1))[0]

    # sqrt(a i) at a = 3, i = 3.
    self.assertAllClose(jax.jit(jax.grad(solve))(3., 3), .5,
                        check_dtypes=False, rtol=1e-5)
    self.assertAllClose(jax.jit(jax.grad(jax.grad(solve)))(3., 3), -1 / 12,
                        check_dtypes=False, rtol=1e-4)


class CustomVJPTest(jtu.JaxTestCase):

  def test_closure_convert_docstring_example(self):
    def loss(a):
      f = lambda x: x ** 2 - a
      return jnp.sum(_find_root(_root_vjp, f, jnp.ones(2)))

    self.assertAllClose(jax.grad(loss)(jnp.array([4., 9.])),
                        jnp.array([1 / 4, 1 / 6]), check_dtypes=False,
                        rtol=1e-5)

  @parameterized.product(
      kind=["float", "complex", "int", "bool", "key", "raw_key", "bfloat16"],
      trace=["jit", "vmap", "grad", "scan", "grad_of_vmap"])
  def test_closure_convert_hoists_every_tracer(self, kind, trace):
    # See https://github.com/jax-ml/jax/pull/14760
    value = dict(
        float=lambda: jnp.float32(2), complex=lambda: jnp.complex64(2j),
        int=lambda: jnp.int32(2), bool=lambda: jnp.array(True),
        key=lambda: jax.random.key(0),
        raw_key=lambda: jax.random.key_data(jax.random.key(0)),
        bfloat16=lambda: jnp.bfloat16(2))[kind]()
    num_hoisted = []

    def f(theta, c):
      def fun(x):
        if "key" in kind:
          key = jax.random.wrap_key_data(c) if kind == "raw_key" else c
          return x * theta * jax.random.uniform(key, dtype=theta.dtype)
        return x * theta * c.real.astype(theta.dtype)
      x = np.ones((), 'float32')
      converted, aux = jax.closure_convert(fun, x)
      num_hoisted.append(len(aux))
      return converted(x, *aux)

    def stack(x):
      return jnp.broadcast_to(x, (3, *x.shape))

    theta = np.array(3, 'float32')
    expected, expected_num = f(theta, value), 2
    if trace == "jit":
      out = jax.jit(f)(theta, value)
    elif trace == "vmap":
      out = jax.vmap(f)(stack(theta), stack(value))[0]
    elif trace == "scan":
      _, outs = lax.scan(lambda _, c: (None, f(theta, c)), None, stack(value))
      out, expected_num = outs[0], 1
    elif trace == "grad":
      out, expected_num = theta * jax.grad(f)(theta, value), 1
    else:
      f_mean = lambda theta, cs: jax.vmap(f, (None, 0))(theta, cs).mean()
      out = theta * jax.grad(f_mean)(theta, stack(value))
    self.assertAllClose(out, expected, check_dtypes=False, rtol=1e-2)
    self.assertEqual(num_hoisted[-1], expected_num)

  def test_closure_convert_hoists_each_tracer_once(self):
    @jax.jit
    def f(c):
      inner = jax.jit(lambda x: x + c)
      fun = lambda x: inner(c * x) + lax.cond(c > 0, lambda: c, lambda: 2 * c)
      converted, aux = jax.closure_convert(fun, 1.)
      self.assertLen(aux, 1)
      self.assertIs(aux[0], c)
      return converted(3., *aux)

    self.assertAllClose(f(2.), 10., check_dtypes=False)

  def test_closure_convert_keeps_concrete_arrays(self):
    # See https://github.com/jax-ml/jax/issues/6415
    big, host = jnp.arange(3.), np.arange(3)
    converted, aux = jax.closure_convert(lambda x: x * big + big[host], big)
    self.assertEmpty(aux)
    self.assertAllClose(converted(big), jnp.arange(3.) ** 2 + jnp.arange(3.))

  @parameterized.parameters("none", "zeros", "float0")
  def test_closure_convert_int_cotangents_are_ignored(self, kind):
    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(f, x, *aux):
      return f(x, *aux)
    def fwd(f, x, *aux):
      return f(x, *aux), (x, aux)
    def bwd(f, res, g):
      x, aux = res
      _, vjp = jax.vjp(f, x, *aux)
      x_bar, *aux_bar = vjp(g)
      make = dict(none=lambda a, _: None, zeros=lambda a, _: jnp.zeros_like(a),
                  float0=lambda _, ct: ct)[kind]
      return x_bar, *(ct if jnp.issubdtype(a.dtype, jnp.floating)
                      else make(a, ct) for a, ct in zip(aux, aux_bar))
    apply.defvjp(fwd, bwd)

    @jax.jit
    @jax.grad
    def f(theta, i, mask):
      fun = lambda x: jnp.sum(jnp.where(mask, x ** i * theta, 0.))
      converted, aux = jax.closure_convert(fun, jnp.ones(2))
      self.assertLen(aux, 3)
      return apply(converted, 3 * jnp.ones(2), *aux)

    self.assertAllClose(f(1., 2, jnp.array([True, False])), 9.,
                        check_dtypes=False)

  def test_closure_convert_vmapped_int(self):
    # See https://github.com/jax-ml/jax/issues/21116
    def solve(a, i):
      f = lambda x: x ** 2 - a * jnp.array([1., 4., 9.])[i]
      return _find_root(_root_vjp, f, jnp.ones(1))[0]

    out = jax.vmap(jax.grad(solve), (None, 0))(1., jnp.arange(3))
    self.assertAllClose(out, jnp.array([.5, 1., 1.5]), check_dtypes=False,
                        rtol=1e-5)

  def test_closure_convert_nested(self):
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

  @parameterized.parameters("struct", "numpy", "scalar", "pytree")
  def test_closure_convert_example_args(self, kind):
    example = dict(
        struct=jax.ShapeDtypeStruct((2,), 'float32'),
        numpy=np.ones(2, 'float32'), scalar=1.,
        pytree={"a": (np.float32(1), jax.ShapeDtypeStruct((2,), 'int32'))}
        )[kind]
    fun = lambda x: jax.tree.map(lambda l: l + 1, x)
    converted, aux = jax.closure_convert(fun, example)
    self.assertEmpty(aux)
    arg = jax.tree.map(lambda l: np.zeros(np.shape(l), l.dtype)
                       if hasattr(l, 'dtype') else 0., example)
    self.assertAllClose(converted(arg), fun(arg), check_dtypes=False)

  def test_closure_convert_example_arg_is_no_array(self):
    with self.assertRaisesRegex(TypeError, "not a valid JAX type"):
      jax.closure_convert(lambda x: x, "a string")

  @parameterized.parameters(
      "lambda", "partial", "method", "jit", "Partial", "vjp", "linearize",
      "unhashable")
  def test_closure_convert_any_callable(self, kind):
    @jax.jit
    def f(c):
      double = lambda c, x: c * x
      fun = {
          "lambda": lambda x: c * x,
          "partial": functools.partial(double, c),
          "method": _Capture(c).__call__,
          "jit": jax.jit(lambda x: c * x),
          "Partial": jax.tree_util.Partial(double, c),
          "vjp": lambda x: jax.vjp(lambda y: c * y, 1.)[1](x)[0],
          "linearize": jax.linearize(lambda y: c * y, 1.)[1],
          "unhashable": _Capture(c),
      }[kind]
      converted, aux = jax.closure_convert(fun, 1.)
      self.assertLen(aux, 1)
      return converted(3., *aux)

    self.assertAllClose(f(2.), 6., check_dtypes=False)

  def test_closure_convert_does_not_trust_equality_of_callables(self):
    def f(c):
      converted, aux = jax.closure_convert(_Equal(c), 1.)
      return converted(1., *aux)

    self.assertAllClose(f(jnp.float32(2)), 2., check_dtypes=False)
    self.assertAllClose(f(jnp.float32(3)), 3., check_dtypes=False)
    self.assertAllClose(jax.jit(f)(4.), 4., check_dtypes=False)
    self.assertAllClose(jax.jit(jax.grad(f))(5.), 1., check_dtypes=False)

  def test_closure_convert_other_types(self):
    # See https://github.com/jax-ml/jax/issues/6867
    fun = lambda z: jnp.sum(z) / z.shape[0]
    converted, aux = jax.closure_convert(fun, jnp.ones(3))
    self.assertAllClose(converted(jnp.arange(6.), *aux), 2.5,
                        check_dtypes=False)
    self.assertEqual(converted(jnp.arange(6), *aux).dtype,
                     fun(jnp.arange(6)).dtype)
    self.assertAllClose(converted(jnp.ones(3), *aux), 1., check_dtypes=False)

  def test_closure_convert_other_types_under_transformations(self):
    def f(c):
      converted, aux = jax.closure_convert(lambda z: jnp.sin(c * z),
                                           jnp.ones(3))
      return jnp.sum(converted(jnp.arange(6.), *aux))

    expected = jax.grad(lambda c: jnp.sum(jnp.sin(c * jnp.arange(6.))))(2.)
    for grad_f in (jax.grad(f), jax.jit(jax.grad(f)), jax.grad(jax.jit(f))):
      self.assertAllClose(grad_f(2.), expected, check_dtypes=False)

  def test_closure_convert_other_types_in_rule(self):
    # The traces that c belongs to have ended when the rule calls the function.
    def f(c):
      converted, aux = jax.closure_convert(
          lambda z: jnp.sin(c * z) / z.shape[0], jnp.ones(3))
      return _sum_at_six(converted, *aux)

    expected = jax.grad(lambda c: jnp.sum(jnp.sin(c * jnp.arange(6.))) / 6)(2.)
    for grad_f in (jax.grad(f), jax.jit(jax.grad(f)), jax.grad(jax.jit(f))):
      self.assertAllClose(grad_f(2.), expected, check_dtypes=False, rtol=1e-5)
    grads = jax.vmap(jax.grad(f))(jnp.full(2, 2.))
    self.assertAllClose(grads, jnp.full(2, expected), check_dtypes=False,
                        rtol=1e-5)
    grads = jax.grad(lambda cs: jnp.sum(jax.vmap(f)(cs)))(jnp.full(2, 2.))
    self.assertAllClose(grads, jnp.full(2, expected), check_dtypes=False,
                        rtol=1e-5)

  def test_closure_convert_other_types_that_capture_more(self):
    @jax.jit
    def f(c, d):
      fun = lambda z, _: z * (c if z.shape == (3,) else d)
      converted, aux = jax.closure_convert(fun, jnp.ones(3), {"k": 1.})
      with self.assertRaisesRegex(
          TypeError,
          r"args\[0\] was float32\[3\], but is float32\[6\].*captures tracers"):
        converted(jnp.ones(6, 'float32'), {"k": 1.}, *aux)
      return 0.

    with config.enable_x64(False):
      f(1., 2.)

  def test_closure_convert_other_types_that_fun_refuses(self):
    with config.enable_x64(False):
      converted, _ = jax.closure_convert(
          lambda z, *, k: k["a"] * jnp.arange(3.) * z, 1., k={"a": jnp.ones(3)})
      with self.assertRaisesRegex(
          TypeError,
          r"kwargs\['k'\]\['a'\] was float32\[3\], but is float32\[4\]"):
        converted(1., k={"a": jnp.ones(4)})

  def test_closure_convert_weak_type_is_no_other_type(self):
    num_traces = []
    def fun(z):
      num_traces.append(1)
      return z * 2
    converted, _ = jax.closure_convert(fun, 1.)
    converted(jnp.ones((), jnp.result_type(float)))
    converted, _ = jax.closure_convert(fun, jnp.ones((), 'float32'))
    num = len(num_traces)
    converted(jnp.float32(1))
    converted(jnp.ones((), 'float32') * 2)
    self.assertLen(num_traces, num)
    self.assertEqual(num, 2)

  def test_closure_convert_kwargs(self):
    @jax.jit
    def f(c):
      fun = lambda x, *, scale: c * x * scale["s"]
      converted, aux = jax.closure_convert(fun, 1., scale={"s": 1.})
      return converted(2., *aux, scale={"s": 3.})

    self.assertAllClose(f(5.), 30., check_dtypes=False)

  def test_closure_convert_structure_mismatch(self):
    @jax.jit
    def f(c):
      converted, aux = jax.closure_convert(lambda x: c * x[0], [1.])
      for args, kwargs, msg in [
          (([1., 2.], *aux), {}, "pytree structure"),
          ((1., *aux), {}, "pytree structure"),
          (([1.], *aux), {"k": 1.}, "pytree structure"),
          (([1.],), {}, r"1 positional argument.* 1 hoisted value.* got 1"),
          ((), {}, r"1 positional argument.* 1 hoisted value.* got 0"),
          (([1.], *aux, *aux), {}, r"1 positional .* 1 hoisted .* got 3"),
          (([1.], jnp.ones(3)), {}, r"hoisted value 0 .* type float.*\[3\]"),
          (([1.], 1), {}, r"hoisted value 0 .* type float.*int"),
      ]:
        with self.assertRaisesRegex(TypeError, msg):
          converted(*args, **kwargs)
      return 0.

    f(1.)

  def test_closure_convert_again_costs_no_trace(self):
    num_traces = []
    def fun(x):
      num_traces.append(1)
      return 2 * x
    first, _ = jax.closure_convert(fun, 1.)
    second, _ = jax.closure_convert(fun, 2.)
    self.assertLen(num_traces, 1)
    self.assertEqual(first, second)
    self.assertEqual(hash(first), hash(second))
    third, _ = jax.closure_convert(fun, 1)
    self.assertLen(num_traces, 2)
    self.assertNotEqual(first, third)

  def test_closure_convert_under_jit_caches_no_tracer(self):
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

  def test_closure_convert_effects(self):
    def f(a):
      def fun(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x, ordered=True)
        return a * x
      converted, aux = jax.closure_convert(fun, 1.)
      return converted(2., *aux) + converted(3., *aux)

    for g in (f, jax.jit(f), jax.grad(f), jax.jit(jax.grad(f))):
      seen = []
      g(1.)
      jax.effects_barrier()
      self.assertEqual(seen, [2., 3.])

  def test_closure_convert_concrete_ref(self):
    calls = jax.new_ref(jnp.zeros((), 'int32'))
    def fun(x):
      calls[...] += 1
      return x
    converted, aux = jax.closure_convert(fun, 1.)
    self.assertEqual(calls[...], 0)
    converted(1., *aux)
    jax.jit(lambda x: converted(x, *aux))(1.)
    self.assertEqual(calls[...], 2)

  def test_closure_convert_traced_ref(self):
    @jax.jit
    def f():
      ref = jax.new_ref(jnp.zeros(()))
      jax.closure_convert(lambda x: x * ref[...], 1.)

    with self.assertRaisesRegex(TypeError, "captures a mutable reference"):
      f()

  def test_closure_convert_leaks_no_tracer(self):
    def loss(a, i):
      f = lambda x: x ** 2 - a * jnp.array([1., 4.])[i]
      return _find_root(_root_vjp, f, jnp.ones(1))[0]

    with jax.checking_leaks():
      for grad_f in (jax.grad(loss), jax.jit(jax.grad(loss)),
                     jax.grad(jax.jit(loss)),
                   lambda a, i: jax.vmap(jax.grad(loss), (None, 0))(
                       a, i[None])[0],
                   jax.grad(lambda a, i: jax.vmap(loss, (None, 0))(
                       a, i[None])[0])):
        self.assertAllClose(grad_f(1., jnp.array(1)), 1., check_dtypes=False,
                            rtol=1e-5)

  def test_closure_convert_retains_nothing(self):
    def convert(c):
      fun = lambda x: c * x
      converted, aux = jax.closure_convert(fun, c)
      converted(c, *aux)
      return weakref.ref(fun), weakref.ref(c)

    refs = [*convert(jnp.arange(3.))]
    jax.jit(lambda c: refs.extend(convert(c)) or c)(jnp.arange(3.))
    jax.grad(lambda c: refs.extend(convert(c)) or c)(1.)
    gc.collect()
    self.assertEqual([ref() for ref in refs], [None] * 6)

  def test_closure_convert_fresh_closures_retain_no_arrays(self):
    def solve(a, c):
      f = lambda x: x ** 2 - a * c[:2]
      return jnp.sum(_find_root(_root_vjp, f, jnp.ones(2)))

    jax.grad(solve)(1., jnp.ones(1000))
    gc.collect()
    before = len(jax.live_arrays())
    for _ in range(10):
      jax.grad(solve)(1., jnp.ones(1000))
    gc.collect()
    self.assertLessEqual(len(jax.live_arrays()), before)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
