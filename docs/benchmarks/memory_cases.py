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

"""What the benchmarks of memory run. Imported by the worker processes only.

A case takes the way, as in `cases`, the number of closures, each over a new
array, and the most seconds to spend on them. It returns how many there were,
and the bytes retained.
"""

import gc
import os
import time

import jax
import jax.numpy as jnp
from jax.experimental import ode

import cases

_MEGABYTES = 4

def _memory(step, count, seconds):
  """Runs `step` on many arrays; returns how many, and the bytes retained."""
  def array(i):
    return jnp.full((_MEGABYTES << 18,), 1. + i / count, 'float32')
  for i in range(min(20, count // 3)):
    step(array(i))  # until what JAX keeps for the next call is there
  before = _retained()
  done, deadline = 0, time.monotonic() + seconds
  while done < count and time.monotonic() < deadline:
    step(array(done))
    done += 1
  after = _retained()
  live, rss = (a - b for a, b in zip(after, before))
  return {"count": done, "live": live, "rss": rss}

def _retained():
  gc.collect()
  live = sum(x.nbytes for x in jax.live_arrays())
  try:
    with open("/proc/self/statm", encoding="ascii") as f:
      rss = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
  except OSError:
    rss = float("nan")
  return live, rss

def memory_traced(_, count, seconds):
  x0 = jnp.ones(3)
  def loss(big):
    f, aux = jax.closure_convert(lambda x: x ** 2 - big[:3], x0)
    return cases.jitted_root(f, x0, tuple(aux)).sum()
  def step(big):
    jax.block_until_ready(jax.grad(loss)(big))
  return _memory(step, count, seconds)

def _concrete(root, count, seconds):
  # closure_convert hoists no array that nothing is tracing, so that another
  # such array makes another function.
  x0 = jnp.ones(3)
  def step(big):
    def loss(k):
      f, aux = jax.closure_convert(lambda x: k * x ** 2 - big[:3], x0)
      return root(f, x0, tuple(aux)).sum()
    jax.block_until_ready(jax.grad(loss)(2.))
  return _memory(step, count, seconds)

def memory_concrete(_, count, seconds):
  return _concrete(cases.root, count, seconds)

def memory_static(_, count, seconds):
  return _concrete(cases.jitted_root, count, seconds)

def memory_pytree(impl, count, seconds):
  x0 = jnp.ones(3)
  if impl == "ours":
    to_pytree = jax.custom_derivatives.closure_to_pytree
    def step(big):
      f = to_pytree(lambda x: x ** 2 - big[:3], x0)
      jax.block_until_ready(cases.root_of_pytree(f, x0))
  else:
    def step(big):
      f, aux = jax.closure_convert(lambda x: x ** 2 - big[:3], x0)
      jax.block_until_ready(cases.jitted_root(f, x0, tuple(aux)))
  return _memory(step, count, seconds)

def memory_odeint(_, count, seconds):
  y0, ts = jnp.ones(3), jnp.asarray(cases.TS)
  def step(big):
    jax.block_until_ready(ode.odeint(lambda y, t: -big[:3] * y, y0, ts))
  return _memory(step, count, seconds)
