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

"""Changes one expression of a long upstream function.

A mirror that defined the function would have to repeat all of its lines.
"""

from collections.abc import Callable
import inspect
import sys


def edited(fun: Callable, old: str, new: str) -> Callable:
  """Returns an upstream function, compiled again with ``new`` for ``old``.

  Args:
    fun: a function at the top level of an upstream module. It may be decorated.
    old: source text that the function contains once.
    new: what the diff puts in its place.

  Raises:
    ValueError: the function does not contain ``old`` once.
  """
  original = inspect.unwrap(fun)
  source = inspect.getsource(original)
  if source.count(old) != 1:
    raise ValueError(f"{fun.__module__}.{fun.__name__} does not have `{old}`")
  # Tracebacks show the lines of the file.
  source = "\n" * (original.__code__.co_firstlineno - 1) + source
  code = compile(source.replace(old, new), inspect.getsourcefile(original),
                 "exec", dont_inherit=True)
  defined = {}
  exec(code, vars(sys.modules[fun.__module__]), defined)
  return defined[fun.__name__]
