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

"""The code whose memory is measured. Only the worker processes import it.

A case takes the way, as in `cases`, and returns a function that makes a closure
over an array of 4 MB and uses it. `retained` runs it with many arrays.
"""

import gc
import os
import time
import weakref

import jax
import jax.numpy as jnp
from jax.experimental import ode

import cases

_MEGABYTES = 4

def retained(step, count, seconds):
  """Returns how many closures were made, and the memory that they retain."""
  def array(i):
    return jnp.full((_MEGABYTES << 18,), 1. + i / count, "float32")
  for i in range(min(20, count // 3)):
    step(array(i))  # Fills the caches of JAX.
  before = _totals()
  closures, done, deadline = [], 0, time.monotonic() + seconds
  while done < count and time.monotonic() < deadline:
    closures.append(weakref.ref(step(array(done))))
    done += 1
  found = {"count": done}
  for name, total in _totals().items():
    found[name] = total - before[name]
  jax.clear_caches()
  gc.collect()
  found["functions"] = sum(closure() is not None for closure in closures)
  return found

def _totals():
  gc.collect()
  live = sum(x.nbytes for x in jax.live_arrays())
  tracers = sum(isinstance(x, jax.core.Tracer) for x in gc.get_objects())
  try:
    with open("/proc/self/statm", encoding="ascii") as f:
      rss = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
  except OSError:
    rss = float("nan")
  return {"live": live, "rss": rss, "tracers": tracers}

def memory_odeint(_):
  y0, ts = jnp.ones(3), jnp.asarray(cases.TS)
  def step(big):
    closure = lambda y, t: -big[:3] * y
    jax.block_until_ready(ode.odeint(closure, y0, ts))
    return closure
  return step

def memory_gradient(_):
  x0 = jnp.ones(3)
  def step(big):
    closures = []
    def loss(big):
      closures.append(lambda x: x ** 2 - big[:3])
      f, aux = jax.closure_convert(closures[0], x0)
      return cases.jitted_root(f, x0, tuple(aux)).sum()
    jax.block_until_ready(jax.grad(loss)(big))
    return closures[0]
  return step

def memory_static(_):
  # closure_convert does not hoist concrete arrays, so that another array makes
  # another function.
  x0 = jnp.ones(3)
  def step(big):
    closure = lambda x: x ** 2 - big[:3]
    f, aux = jax.closure_convert(closure, x0)
    jax.block_until_ready(cases.jitted_root(f, x0, tuple(aux)))
    return closure
  return step

def memory_pytree(impl):
  if impl == "stock":
    return memory_static(impl)
  x0 = jnp.ones(3)
  def step(big):
    closure = lambda x: x ** 2 - big[:3]
    f = jax.custom_derivatives.closure_to_pytree(closure, x0)
    jax.block_until_ready(cases.root_of_pytree(f, x0))
    return closure
  return step
