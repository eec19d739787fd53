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

"""Changes one expression in a long upstream function, for a mirror.

A mirror replaces whole definitions. To change one line of ``odeint``'s solver
``_odeint``, it would have to repeat all of its lines. Instead, the mirror names
the expression: in an installed JAX, :func:`edited` compiles the function again
with the new text, and ``upstream_diff`` writes the new text into the source.
"""

from collections.abc import Callable
import inspect
import sys


def edited(fun: Callable, old: str, new: str) -> Callable:
  """Compiles an upstream function again, with one expression replaced.

  The new function has the decorators and the globals of ``fun``, which is not
  changed.

  Args:
    fun: a function at the top level of an upstream module.
    old: source text that occurs once in the function.
    new: the text that replaces it, on one line.

  Raises:
    ValueError: ``old`` does not occur exactly once.
  """
  original = inspect.unwrap(fun)
  source = inspect.getsource(original)
  if source.count(old) != 1:
    raise ValueError(
        f"{fun.__module__}.{fun.__name__} does not contain `{old}` once")
  # Blank lines keep the line numbers, so that tracebacks show the right lines.
  source = "\n" * (original.__code__.co_firstlineno - 1) + source
  code = compile(source.replace(old, new), inspect.getsourcefile(original),
                 "exec", dont_inherit=True)
  defined = {}
  exec(code, vars(sys.modules[fun.__module__]), defined)
  return defined[fun.__name__]
