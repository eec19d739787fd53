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

"""Two processes run one program: a process's history must not matter.

A program over a mesh of the devices of both has to be the same in both. The
persistent compilation cache, whose key is the text of a lowered program, serves
the closures of another process only if no address or count is in that text.
"""

import collections
import concurrent.futures
import os
import re
import socket
import subprocess
import sys

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax._src import distributed
from jax._src import test_util as jtu
from jax.custom_derivatives import closure_to_pytree
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P

jax.config.parse_flags_with_absl()


# Two ways to compute exp(-k (1 + i) / 2) by a function that captures both.

def _by_closure_convert(k, i):
  half = jnp.full_like(k, .5)
  f, aux = jax.closure_convert(lambda t: jnp.exp(-k * (1. + i) * t), half)
  call = jax.jit(lambda f, *args: f(*args), static_argnums=0)
  return call(f, half, *aux)

def _by_odeint(k, i):
  times = jnp.array([0., .5])
  return odeint(lambda y, t: -k * (1. + i) * y, 0. * k + 1., times)[-1]


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
    self.k, self.i, self.ones = (
        jax.make_array_from_callback(
            x.shape, NamedSharding(self.mesh, P("x")), x.__getitem__)
        for x in (self.k_all, self.i_all, np.ones_like(self.k_all)))
    # Another history in each process.
    for n in range(2 * jax.process_index()):
      for solve in _by_closure_convert, _by_odeint:
        jax.grad(lambda k: solve(k, n).sum())(jnp.ones(1 + n))
    self.wait("before")

  def wait(self, name):
    # The processes compile at different speeds, and the first collective fails
    # where one waits for the other for more than 30 s.
    distributed.global_state.client.wait_at_barrier(
        f"{self._testMethodName} {name}", 200_000)

  def check(self, actual, expected):
    for shard in actual.addressable_shards:
      np.testing.assert_allclose(
          shard.data, expected[shard.index], rtol=1e-4, atol=1e-5)

  @parameterized.product(
      solve=[_by_closure_convert, _by_odeint], in_shard_map=[False, True])
  def test_gradient(self, solve, in_shard_map):
    if in_shard_map:
      solve = jax.shard_map(
          solve, mesh=self.mesh, in_specs=P("x"), out_specs=P("x"))
    def loss(k, i):
      x = solve(k, i)
      return jnp.sum(jnp.sin(x)), x
    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(
        self.k, self.i).compile()
    self.wait("compiled")
    (_, x), k_bar = compiled(self.k, self.i)
    n = 1. + self.i_all
    expected = np.exp(-self.k_all * n / 2)
    self.check(x, expected)
    self.check(k_bar, np.cos(expected) * -n / 2 * expected)

  # With arrays that no process has the whole of, which cannot be constants.
  def test_eager_odeint(self):
    times = np.array([0., .5], self.k_all.dtype)
    def loss(y0, k):
      return odeint(lambda y, t: -k * y, y0, times)[-1].sum()
    y0_bar, k_bar = jax.grad(loss, (0, 1))(self.ones, self.k)
    self.check(y0_bar, np.exp(-self.k_all / 2))
    self.check(k_bar, -np.exp(-self.k_all / 2) / 2)
    self.check(jax.grad(loss)(self.ones, self.k), np.exp(-self.k_all / 2))


def _use_closures(num_before: int):
  # Fresh closures in each call, over arrays that are concrete and traced.
  times = jnp.array([0., .5])
  def solve(k, i):
    rates = jnp.array([1., 2., 3.])
    return odeint(lambda y, t: -k * rates[i] * y, jnp.ones(2), times)[-1]
  for n in range(num_before):
    solve(jnp.ones(n + 3)[:2], 0)
  k = jnp.array([.5, .7])
  solve(k, 1)
  jax.grad(lambda k: solve(k, 1).sum())(k)
  jax.jit(jax.grad(lambda k, i: solve(k, i).sum()))(k, 1)
  jax.jit(lambda f: f(jnp.ones(2)))(
      closure_to_pytree(lambda x: jnp.sin(k * x), jnp.ones(2)))


def _count_compilations(cache_dir: str, num_before: str):
  events = collections.Counter()
  jax.monitoring.register_event_listener(
      lambda event, **kwargs: events.update([event.rpartition("/")[2]]))
  jax.config.update("jax_compilation_cache_dir", cache_dir)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  _use_closures(int(num_before))
  print(f"hits: {events['cache_hits']} misses: {events['cache_misses']}")


class TwoProcessesTest(jtu.JaxTestCase):

  def run_this_file(self, *args):
    done = subprocess.run(
        [sys.executable, "-m", "jax_patch", __file__, *args], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu",
             "PYTHONPATH": os.pathsep.join(sys.path)})
    self.assertEqual(done.returncode, 0, done.stdout[-10000:])
    return done.stdout

  def test_second_process_compiles_nothing(self):
    cache_dir = self.create_tempdir().full_path
    def count(num_before):
      output = self.run_this_file("cache", cache_dir, num_before)
      return map(int, re.search(r"hits: (\d+) misses: (\d+)", output).groups())
    _, misses = count("2")
    self.assertGreater(misses, 0)
    # It has another history: it used fewer closures before.
    hits, misses = count("0")
    self.assertGreater(hits, 0)
    self.assertEqual(misses, 0)

  def test_one_program_over_both(self):
    with socket.socket() as s:
      # The first process listens on this port. Until then it is taken, so that
      # no other program gets it.
      s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
      s.bind(("localhost", 0))
      address = f"localhost:{s.getsockname()[1]}"
      with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for output in pool.map(
            lambda i: self.run_this_file("tests", address, i), "01"):
          self.assertIn("Ran 5 tests", output)


def _run_tests(address: str, process_id: str):
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.config.update("jax_num_cpu_devices", 4)
  jax.distributed.initialize(
      address, num_processes=2, process_id=int(process_id))
  absltest.main(argv=[sys.argv[0], "BothProcessesTest"],
                testLoader=jtu.JaxTestLoader())


if __name__ == "__main__":
  match sys.argv[1:]:
    case "cache", cache_dir, num_before:
      _count_compilations(cache_dir, num_before)
    case "tests", address, process_id:
      _run_tests(address, process_id)
    case _:
      absltest.main(argv=[*sys.argv, "TwoProcessesTest"],
                    testLoader=jtu.JaxTestLoader())
