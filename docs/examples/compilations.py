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

"""Counts the programs that JAX compiles.

Run a demonstration by `python -m jax_patch docs/examples/compilations.py`.
"""

import jax

_compiled = []

def _listen(event, seconds, **kwargs):
  if event == "/jax/core/compile/backend_compile_duration":
    _compiled.append(seconds)

jax.monitoring.register_event_duration_secs_listener(_listen)

def count_compilations(fun, *args):
  """Returns how many programs are compiled for a call of `fun`."""
  before = len(_compiled)
  jax.block_until_ready(fun(*args))
  return len(_compiled) - before

if __name__ == "__main__":
  double = jax.jit(lambda x: 2 * x)
  print([count_compilations(double, x) for x in (1., 2., 3)])
