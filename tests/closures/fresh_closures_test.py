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

"""Fresh closures of one program compare equal, for operations of JAX.

``random_pairs_test.py`` has more of them.
"""

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree

jax.config.parse_flags_with_absl()


@jax.custom_vjp
def _with_rule(x):
  return 2. * x

_scaled = jax.jit(_with_rule)  # JAX keeps its trace, and so its rule.

_with_rule.defvjp(lambda x: (2. * x, x), lambda x, g: (3. * g * x,))

def _matrix(a):
  return jnp.outer(a, a) + jnp.eye(3, dtype=a.dtype)

def _linalg(f):
  return lambda a, i, key: lambda x: f(_matrix(a), x)

_TABLE = np.arange(3, dtype='float32')
_BIG = np.ones((99, 3), 'float32')
_la = jnp.linalg

# Functions of a positive vector of length 3, of an integer and of a PRNG key,
# that return a fresh closure over them: a function of such a vector.
CLOSURES = dict(
    jit=lambda a, i, key: lambda x: jax.jit(lambda x: jnp.sin(x) * a)(x),
    guarded=lambda a, i, key: lambda x: jnp.where(
        x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.)), a),
    rule_in_jit=lambda a, i, key: lambda x: _scaled(x * a),
    solve=_linalg(_la.solve), inv=_linalg(lambda m, x: _la.inv(m) @ x),
    det=_linalg(lambda m, x: _la.det(m) * x),
    slogdet=_linalg(lambda m, x: _la.slogdet(m)[1] * x),
    cholesky=_linalg(lambda m, x: _la.cholesky(m) @ x),
    qr=_linalg(lambda m, x: _la.qr(m)[1] @ x),
    eigh=_linalg(lambda m, x: _la.eigh(m)[0] * x),
    svd=_linalg(lambda m, x: _la.svd(m, compute_uv=False) * x),
    pinv=_linalg(lambda m, x: _la.pinv(m) @ x),
    lstsq=_linalg(lambda m, x: _la.lstsq(m, x)[0]),
    norm=_linalg(lambda m, x: _la.norm(m) * x),
    matrix_power=_linalg(lambda m, x: _la.matrix_power(m, 3) @ x),
    expm=_linalg(lambda m, x: jax.scipy.linalg.expm(m) @ x),
    cho_solve=_linalg(lambda m, x: jax.scipy.linalg.cho_solve(
        jax.scipy.linalg.cho_factor(m), x)),
    cg=_linalg(lambda m, x: jax.scipy.sparse.linalg.cg(m, x)[0]),
    custom_linear_solve=_linalg(lambda m, x: lax.custom_linear_solve(
        lambda v: m @ v, x, lambda f, b: _la.solve(m, b), symmetric=True)),
    einsum=lambda a, i, key: lambda x: jnp.einsum('i,j,j->i', x, x, a),
    numpy=lambda a, i, key: lambda x: (
        x * a * _TABLE + np.array([1, 2, 3], 'float32')),
    numpy_nested=lambda a, i, key: lambda x: lax.fori_loop(
        0, 2, lambda _, x: jax.jit(lambda x: x * a * _TABLE)(x), x),
    big_numpy=lambda a, i, key: lambda x: x * a * jnp.sum(_BIG),
    big_numpy_nested=lambda a, i, key: lambda x: lax.fori_loop(
        0, 2, lambda _, x: jax.jit(lambda x: x * a * _BIG[0])(x), x),
    big_numpy_in_jit=lambda a, i, key: lambda x: jax.jit(
        lambda x: x * a * jnp.sum(_BIG, 0))(x),
    hessian=lambda a, i, key: lambda x: jax.hessian(
        lambda x: jnp.sum(jax.nn.silu(x) * a))(x) @ x,
    grad_of_scan=lambda a, i, key: lambda x: jax.grad(
        lambda x: jnp.sum(lax.scan(
            lambda s, _: (jax.nn.softplus(s * a), None), x, length=3)[0]))(x),
)

# What a jitted function captured that is not traced stays its constant.
_CONSTANT = ("jit", "numpy_nested", "big_numpy_nested", "big_numpy_in_jit")


class CoverageTest(jtu.JaxTestCase):

  @parameterized.named_parameters(
      (name, name, make) for name, make in CLOSURES.items())
  def test_fresh_closures_are_equal(self, name, make):
    def values(k):
      return (jnp.asarray([1., 2., 3.], 'float32') * k, jnp.int32(k),
              jax.random.key(k))

    x, converted = np.ones(3, 'float32'), []
    for k in (1, 2):
      jax.eval_shape(lambda *values: converted.append(
          jax.closure_convert(make(*values), x)[0]), *values(k))
    f, g = converted
    self.assertEqual(f, g)
    self.assertEqual(hash(f), hash(g))
    f, g = (closure_to_pytree(make(*values(k)), x) for k in (1, 2))
    if name not in _CONSTANT:
      self.assertEqual(jax.tree.structure(f), jax.tree.structure(g))
      self.assertEqual(hash(f.func), hash(g.func))
    self.assertAllClose(g(x), make(*values(2))(x), rtol=1e-4)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
