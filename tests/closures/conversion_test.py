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

"""closure_convert beyond upstream's tests: references, effects, other types."""

import dataclasses
from functools import partial
import warnings

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import config
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()


@dataclasses.dataclass  # Cannot be hashed.
class _Scale:
  factor: object

  def __call__(self, x):
    return self.factor * x


class ClosureMoreTest(jtu.JaxTestCase):

  @parameterized.parameters("none", "zeros", "float0")
  def test_int_cotangents_are_ignored(self, kind):
    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(f, x, *aux):
      return f(x, *aux)
    def bwd(f, res, g):
      make = dict(none=lambda a, _: None, zeros=lambda a, _: jnp.zeros_like(a),
                  float0=lambda _, ct: ct)[kind]
      return tuple(make(a, ct) if ct.dtype == jax.dtypes.float0 else ct
                   for a, ct in zip(res, jax.vjp(f, *res)[1](g)))
    apply.defvjp(lambda f, *args: (f(*args), args), bwd)

    @jax.jit
    @jax.grad
    def f(theta, i, mask):
      fun = lambda x: jnp.sum(jnp.where(mask, x ** i * theta, 0.))
      converted, aux = jax.closure_convert(fun, jnp.ones(2))
      self.assertLen(aux, 3)
      return apply(converted, 3 * jnp.ones(2), *aux)

    self.assertAllClose(f(1., 2, jnp.array([True, False])), 9.,
                        check_dtypes=False)

  @parameterized.parameters(False, True)
  def test_ref(self, traced):
    def f():
      ref = jax.new_ref(jnp.zeros(()))
      def fun(x):
        ref[...] += x
        return x
      converted, aux = jax.closure_convert(fun, 1.)
      self.assertLen(aux, traced)
      converted(2., *aux)
      jax.jit(lambda x: converted(x, *aux))(3.)
      return ref[...]

    self.assertAllClose((jax.jit(f) if traced else f)(), 5., check_dtypes=False)

  def test_shape_dtype_struct(self):
    example = {"a": (np.float32(1), jax.ShapeDtypeStruct((2,), 'int32'))}
    converted, aux = jax.closure_convert(
        lambda x: jax.tree.map(lambda l: l + 1, x), example)
    self.assertEmpty(aux)
    out = converted({"a": (np.float32(2), np.ones(2, 'int32'))})
    self.assertAllClose(out, {"a": (3., 2 * np.ones(2))}, check_dtypes=False)

  def test_other_types_warn_once_for_each_call_site(self):
    converted, _ = jax.closure_convert(lambda z: 2 * z, jnp.ones(3))
    with (config.enable_checks(False),
          warnings.catch_warnings(record=True) as caught):
      warnings.simplefilter("default")
      for _ in range(3):
        converted(jnp.ones(6))
      converted(jnp.ones(6))
    self.assertLen(caught, 2)
    self.assertEqual({w.filename for w in caught}, {__file__})

  @parameterized.parameters("grad", "jit", "vmap", "grad_of_vmap")
  def test_kernel_at_other_types(self, trace):
    # A kernel that is converted for points, and called on grids.
    def f(theta, grid):
      kernel, aux = jax.closure_convert(
          lambda x, y: jnp.exp(-theta * (x - y) ** 2), 0., 0.)
      return jnp.sum(kernel(grid[:, None], grid[None], *aux))

    def expected(theta, grid):
      return jnp.sum(jnp.exp(-theta * (grid[:, None] - grid[None]) ** 2))

    vmap = lambda f: lambda theta, grid: jax.vmap(f, (None, 0))(
        theta, jnp.stack([grid, 2 * grid])).sum()
    transform = dict(grad=jax.grad, jit=lambda f: jax.jit(jax.grad(f)),
                     vmap=vmap, grad_of_vmap=lambda f: jax.grad(vmap(f)))[trace]
    args = 2., jnp.linspace(0., 1., 4)
    with config.enable_checks(False), self.assertWarns(FutureWarning):
      out = transform(f)(*args)
    self.assertAllClose(out, transform(expected)(*args), check_dtypes=False,
                        rtol=1e-5)

  def test_other_types_of_a_node_that_wants_arrays(self):
    @jax.tree_util.register_pytree_node_class
    class Node:
      def __init__(self, value):
        self.value = jnp.asarray(value)

      def tree_flatten(self):
        return (self.value,), None

      @classmethod
      def tree_unflatten(cls, _, children):
        return cls(*children)

    converted, _ = jax.closure_convert(lambda n: n.value * 2, Node([1., 2.]))
    with config.enable_checks(False), self.assertWarns(FutureWarning):
      out = converted(Node([1., 2., 3.]))
    self.assertAllClose(out, jnp.array([2., 4., 6.]), check_dtypes=False)

  def test_effects(self):
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

  @parameterized.named_parameters(
      ("lambda", lambda c: lambda x: c * x),
      ("method", lambda c: _Scale(c).__call__),
      ("Partial", lambda c: jax.tree_util.Partial(lambda c, x: c * x, c)),
      ("vjp", lambda c: lambda x: jax.vjp(lambda y: c * y, 1.)[1](x)[0]),
      ("linearize", lambda c: jax.linearize(lambda y: c * y, 1.)[1]),
      ("unhashable", _Scale))
  def test_any_callable(self, make):
    @jax.jit
    def f(c):
      converted, aux = jax.closure_convert(make(c), 1.)
      self.assertLen(aux, 1)
      return converted(3., *aux)

    self.assertAllClose(f(2.), 6., check_dtypes=False)

  def test_name(self):
    def residual(x):
      return x
    converted, _ = jax.closure_convert(residual, 1.)
    self.assertEqual(converted.__name__, "residual")
    self.assertIn("jit_residual", jax.jit(converted).lower(1.).as_text())


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
