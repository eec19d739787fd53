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

"""Two processes run one program, over a mesh of the devices of both.

The processes have called different closures before, and a process's history
must not matter. Each compares its part of the results with the formula, and
prints a digest of the programs that it lowered.
"""

import hashlib
import re
import socket
import sys
import unittest

from absl.testing import absltest
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import test_util as jtu
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P

import own_process

jax.config.parse_flags_with_absl()


def _newton(f, x0, *args):
  def step(_, x):
    f_x, df_x = jax.jvp(lambda x: f(x, *args), (x,), (jnp.ones_like(x),))
    return x - f_x / df_x
  return lax.fori_loop(0, 8, step, x0)

_root = jax.custom_vjp(_newton, nondiff_argnums=(0,))

def _root_fwd(f, x0, *args):
  x = _root(f, x0, *args)
  return x, (x, args)

def _root_bwd(f, res, x_bar):
  x, args = res
  _, slope = jax.jvp(lambda x: f(x, *args), (x,), (jnp.ones_like(x),))
  _, vjp_args = jax.vjp(lambda *args: f(x, *args), *args)
  return jnp.zeros_like(x), *vjp_args(-x_bar / slope)

_root.defvjp(_root_fwd, _root_bwd)

def _solve_root(k, i):
  x0 = 0. * k + 2.
  f, aux = jax.closure_convert(lambda x: x ** 2 - k * (1. + i), x0)
  return _root(f, x0, *aux)

def _solve_ode(k, i):
  times = jnp.array([0., .5])
  return odeint(lambda y, t: -k * (1. + i) * y, 0. * k + 1., times)[-1]

# A solver, and the formula for its solution and for the derivative in k.
SOLVERS = {
    "root": (_solve_root, lambda k, n: np.sqrt(k * n),
             lambda k, n: np.sqrt(n / k) / 2),
    "odeint": (_solve_ode, lambda k, n: np.exp(-k * n / 2),
               lambda k, n: -n / 2 * np.exp(-k * n / 2)),
}


@jtu.with_config(jax_numpy_dtype_promotion="standard")
class BothProcessesTest(jtu.JaxTestCase):
  """Runs in each of the processes at the same time."""

  __test__ = False

  def setUp(self):
    super().setUp()
    self.assertEqual((jax.process_count(), jax.device_count()), (2, 8))
    self.mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
    self.k_all = np.linspace(1., 3., 16, dtype=jnp.result_type(float))
    self.i_all = np.arange(16, dtype="int32") % 3
    self.k, self.i = (
        jax.make_array_from_callback(
            x.shape, NamedSharding(self.mesh, P("x")), x.__getitem__)
        for x in (self.k_all, self.i_all))
    # Another history in each process.
    for n in range(1 + 3 * jax.process_index()):
      for solve, *_ in SOLVERS.values():
        solve(jnp.arange(1., 2. + n), n)
        jax.grad(lambda k: solve(k, 0).sum())(jnp.ones(1 + n))

  def check(self, actual, expected):
    for shard in actual.addressable_shards:
      np.testing.assert_allclose(
          shard.data, expected[shard.index], rtol=1e-4, atol=1e-5)

  def check_gradient(self, name, mapped=lambda solve: solve):
    solve, solution, derivative = SOLVERS[name]
    def loss(k, i):
      x = mapped(solve)(k, i)
      return jnp.sum(jnp.sin(x)), x
    f = jax.jit(jax.value_and_grad(loss, has_aux=True))
    # The digest comes first, so that one that differs is seen without a hang.
    text = f.lower(self.k, self.i).as_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"lowered: {self.id()} {digest}", flush=True)
    (_, x), k_bar = f(self.k, self.i)
    n = 1. + self.i_all
    self.check(x, solution(self.k_all, n))
    self.check(k_bar, np.cos(solution(self.k_all, n)) *
               derivative(self.k_all, n))

  def test_root(self):
    self.check_gradient("root")

  def test_odeint(self):
    self.check_gradient("odeint")

  def test_root_in_shard_map(self):
    self.check_gradient("root", self.mapped)

  def test_odeint_in_shard_map(self):
    self.check_gradient("odeint", self.mapped)

  def mapped(self, solve):
    return jax.shard_map(
        solve, mesh=self.mesh, in_specs=P("x"), out_specs=P("x"))

  # With arrays that no process has the whole of, which cannot be constants.
  def test_eager_odeint(self):
    times = np.array([0., .5], self.k_all.dtype)
    ones = jax.make_array_from_callback(
        (16,), self.k.sharding, np.ones_like(self.k_all).__getitem__)
    def loss(y0, k):
      return odeint(lambda y, t: -k * y, y0, times)[-1].sum()
    y0_bar, k_bar = jax.grad(loss, (0, 1))(ones, self.k)
    self.check(y0_bar, np.exp(-self.k_all / 2))
    self.check(k_bar, -np.exp(-self.k_all / 2) / 2)
    self.check(jax.grad(loss)(ones, self.k), np.exp(-self.k_all / 2))


class TwoProcessesTest(jtu.JaxTestCase):

  def run_both(self):
    with socket.socket() as s:
      s.bind(("localhost", 0))
      address = f"localhost:{s.getsockname()[1]}"
    processes = [own_process.start(self, __file__, address, str(i))
                 for i in range(2)]
    outputs = [own_process.output_of(self, p, timeout=300) for p in processes]
    if any("no collectives" in output for output in outputs):
      raise unittest.SkipTest("This jaxlib has no collectives on the CPU.")
    return outputs

  def test_same_results_and_programs(self):
    first, second = (
        dict(re.findall(r"lowered: \S+\.(\w+) (\w+)", output))
        for output in self.run_both())
    self.assertLen(first, 4)
    self.assertEqual(first, second)


def _main(address: str, process_id: str):
  try:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
  except (AttributeError, ValueError):
    return print("no collectives")
  jax.config.update("jax_num_cpu_devices", 4)
  jax.distributed.initialize(
      address, num_processes=2, process_id=int(process_id),
      initialization_timeout=60)
  absltest.main(argv=[sys.argv[0], "BothProcessesTest"],
                testLoader=jtu.JaxTestLoader())


if __name__ == "__main__":
  if len(sys.argv) == 3 and sys.argv[1].startswith("localhost:"):
    _main(*sys.argv[1:])
  else:
    absltest.main(argv=[*sys.argv, "TwoProcessesTest"],
                  testLoader=jtu.JaxTestLoader())
