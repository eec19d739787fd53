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

"""The persistent compilation cache serves closures of another process.

The key of the cache is the text of a lowered program. So a second process has
to lower its closures to the same text, with no address or count of the first
process in it. JAX's own events count how many programs each process compiled.
"""

import collections
import re
import sys

from absl.testing import absltest

import jax
import jax.numpy as jnp
from jax._src import test_util as jtu
from jax.experimental.ode import odeint

import own_process

jax.config.parse_flags_with_absl()


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
  if hasattr(jax.custom_derivatives, "closure_to_pytree"):
    call = jax.jit(lambda f: f(jnp.ones(2)))
    call(jax.custom_derivatives.closure_to_pytree(
        lambda x: jnp.sin(k * x), jnp.ones(2)))


def _main(cache_dir: str, num_before: str):
  events = collections.Counter()
  jax.monitoring.register_event_listener(
      lambda event, **kwargs: events.update([event]))
  jax.config.update("jax_compilation_cache_dir", cache_dir)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  _use_closures(int(num_before))
  name = "/jax/compilation_cache/cache_{}"
  print(f"hits: {events[name.format('hits')]} "
        f"misses: {events[name.format('misses')]}")


class CompilationCacheTest(jtu.JaxTestCase):

  def count(self, cache_dir, num_before):
    process = own_process.start(self, __file__, cache_dir, str(num_before))
    output = own_process.output_of(self, process, timeout=300)
    return map(int, re.search(r"hits: (\d+) misses: (\d+)", output).groups())

  def test_second_process_compiles_nothing(self):
    cache_dir = self.create_tempdir().full_path
    _, misses = self.count(cache_dir, 2)
    self.assertGreater(misses, 0)
    # It has another history: it used fewer closures before.
    hits, misses = self.count(cache_dir, 0)
    self.assertGreater(hits, 0)
    self.assertEqual(misses, 0)


if __name__ == "__main__":
  if len(sys.argv) == 3 and sys.argv[2].isdigit():
    _main(*sys.argv[1:])
  else:
    absltest.main(testLoader=jtu.JaxTestLoader())
