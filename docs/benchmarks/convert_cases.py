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

"""What the benchmarks of conversion run, cases as in `cases`."""

import contextlib
import gc
import itertools
import time
import types

import jax
from jax import lax
import jax.numpy as jnp

import cases


def _sines(n):
  def fun(x):
    for _ in range(n):
      x = lax.sin(x)
    return x
  return fun

@contextlib.contextmanager
def _stopwatch(seconds, collecting=False):
  # Conversion is Python code in one thread, so the time of that thread is what
  # it takes, and what else the machine does then is no part of it. Nor is the
  # garbage collector, as in `timeit`: it goes through the whole heap less often
  # the more a program has left behind, so that it would reward a leak.
  if not collecting:
    gc.disable()
  try:
    start = time.thread_time()
    yield
    seconds.append(time.thread_time() - start)
  finally:
    gc.enable()

_lines = itertools.count(1_000_000)

def _of_new_code(fun):
  # As if the program had another `def` of the same body, so that no cache that
  # goes by source can know it.
  code = fun.__code__.replace(co_firstlineno=next(_lines))
  return types.FunctionType(code, fun.__globals__, fun.__name__,
                            fun.__defaults__, fun.__closure__)

def _repeatedly(convert, make, x):
  def run():
    fun, seconds = _of_new_code(make()), []
    with _stopwatch(seconds):
      convert(fun, x)
    return seconds[0]
  return run

def convert_equations(impl, n):
  return _repeatedly(
      cases.converter(impl), lambda: _sines(n), jnp.ones(3))

def convert_pytree(impl, n):
  x, convert = jnp.ones(3), cases.converter(impl)
  if impl == "ours":
    convert = jax.custom_derivatives.closure_to_pytree
  return _repeatedly(convert, lambda: _sines(n), x)

def convert_and_compare(impl, n):
  # What looking up a converted function in a cache takes, on top.
  x = jnp.ones(3)
  known, _ = jax.closure_convert(_sines(n), x)
  def run():
    fun, seconds = _of_new_code(_sines(n)), []
    with _stopwatch(seconds):
      converted, _ = jax.closure_convert(fun, x)
      hash(converted), converted == known
    return seconds[0]
  return run

def _adding(values):
  def fun(x):
    for value in values:
      x = lax.add(x, value)
    return x
  return fun

def convert_traced(impl, n, collecting=False):
  x, convert = jnp.ones(3), cases.converter(impl)
  values = [x * i for i in range(n)]
  def run():
    seconds = []
    def outer(values):
      fun = _of_new_code(_adding(values))
      with _stopwatch(seconds, collecting):
        convert(fun, x)
      return x
    jax.jvp(outer, (values,), (values,))
    return seconds[0]
  return run

def convert_collecting(impl, n):
  return convert_traced(impl, n, collecting=True)

def convert_concrete(impl, n):
  x = jnp.ones(3)
  values = [x * i for i in range(n)]
  return _repeatedly(cases.converter(impl), lambda: _adding(values), x)

def eager_call(impl, n):
  x, k = jnp.ones(3), jnp.float32(2)
  found = []
  def outer(k):
    fun = lambda x: k * _sines(n - 1)(x)
    found.append(jax.closure_convert(fun, x)[0])
    return k
  jax.jvp(outer, (k,), (k,))
  converted, = found
  return lambda: converted(x, k)
