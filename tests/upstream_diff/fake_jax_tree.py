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

"""A small source tree, with the parts of JAX that the patches change."""

import collections

from upstream_diff import changes
from upstream_diff import imports
from upstream_diff import series


_CUSTOM_DERIVATIVES = '''\
# Copyright

from collections.abc import Callable
from typing import Any

from jax._src import core
from jax._src.api_util import debug_info
from jax._src.tree_util import tree_flatten, tree_map
from jax._src.util import cache, safe_map, safe_zip

map = safe_map
zip = safe_zip

class custom_vjp:
  """Stays   as it is."""

  x = tree_map ; y = 1

### Closures

# What is said here goes with what is replaced.
def closure_convert(fun: Callable, *example_args) -> tuple[Callable, list[Any]]:
  """Old."""
  _, in_tree = tree_flatten(example_args)
  return _closure_convert_for_avals(fun, in_tree, debug_info)

def _maybe_perturbed(x: Any) -> bool:
  return isinstance(x, core.Tracer)

@cache()
def _closure_convert_for_avals(fun, in_tree, debug):
  return fun, partition_list(_maybe_perturbed, in_tree)

def partition_list(choice, lst):
  return [choice(x) for x in lst]


### After

def linear_call(fun):
  return fun
'''

_ODE = '''\
import operator as op
from functools import partial

import jax
import jax.numpy as jnp
from jax._src import core
from jax import custom_derivatives
from jax import lax
from jax._src.util import safe_map, safe_zip
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_leaves, tree_map

map = safe_map
zip = safe_zip


def ravel_first_arg(f, unravel):
  return f

def odeint(func, y0, t, *args, rtol=1., atol=1., mxstep=1, hmax=1):
  """Old."""
  return _odeint_wrapper(func, tree_leaves(args))

@jax.jit
def _odeint_wrapper(func, *args):
  return ravel_first_arg(func, ravel_pytree)

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _odeint(func, *args):
  return lax.scan(func, jnp.ones(2))

def _odeint_fwd(func, *args):
  return _odeint(func), args

def _odeint_rev(func, res, g):
  return tree_map(op.itemgetter(1), res)

_odeint.defvjp(_odeint_fwd, _odeint_rev)
'''

_CUSTOM_API_TEST = '''\
from functools import partial

from absl.testing import absltest, parameterized
import numpy as np

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import config
from jax._src import custom_derivatives
from jax._src import test_util as jtu

config.parse_flags_with_absl()


class CustomJVPTest(jtu.JaxTestCase):

  def test_first(self):
    self.assertTrue(partial(np.ones, jnp.ones, lax))

  def test_maybe_perturbed_internal_helper_function(self):
    self.assertTrue(custom_derivatives._maybe_perturbed(1))

  def test_maybe_perturbed_int_regression(self):
    self.assertEmpty([])  # The integer stays inside.

  def test_last(self):
    pass


class CustomVJPTest(jtu.JaxTestCase):

  def test_closure_convert(self):
    pass

  @parameterized.parameters(1)
  def test_last(self, x):
    pass


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
'''

_ODE_TEST = '''\
from functools import partial

from absl.testing import absltest
import numpy as np

import jax
from jax._src import test_util as jtu
import jax.numpy as jnp
from jax.experimental.ode import odeint

import scipy.integrate as osp_integrate

jax.config.parse_flags_with_absl()


class ODETest(jtu.JaxTestCase):

  def test_decay(self):
    self.assertTrue(partial(odeint, np, jnp, osp_integrate))


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
'''

_BUILD = '''\
pytype_strict_library(
    name = "core",
    srcs = ["core.py"],
)

pytype_strict_library(
    name = "custom_derivatives",
    srcs = ["custom_derivatives.py"],
    deps = [
        ":core",
    ],
)

pytype_strict_library(
    name = "basearray",
    srcs = ["basearray.py"],
)

pytype_strict_library(
    name = "literals",
    srcs = ["literals.py"],
)
'''

_TESTS_BUILD = '''\
jax_multiplatform_test(
    name = "custom_api_test",
    srcs = ["custom_api_test.py"],
    deps = py_deps(["numpy"]),
)

jax_multiplatform_test(
    name = "ode_test",
    srcs = ["ode_test.py"],
    deps = ["//jax/experimental:ode"] + py_deps(["numpy"]),
)
'''

_CHANGELOG = '''\
# Change log

## Unreleased

* Changes
  * Something else.

* Bug fixes
  * Another.

## JAX 1.0
'''

_DOCS = '''\
.. currentmodule:: jax

Automatic differentiation
-------------------------

.. autosummary::
  :toctree: _autosummary

    grad
    closure_convert
    checkpoint

Vectorization
-------------
'''


def write(root):
  """Writes a source tree with little more than what the patch looks at."""
  files = {
      "jax/__init__.py": "__getattr__ = 0\n",
      "jax/version.py": '_version = "0.12.0"\n',
      "jax/custom_derivatives.py": "from jax._src.custom_derivatives import (\n"
                                   "  closure_convert as closure_convert,\n"
                                   "  linear_call as linear_call,\n)\n"
                                   "SymbolicZero = 0\n"
                                   "custom_vjp_primal_tree_values = 0\n",
      "jax/_src/custom_derivatives.py": _CUSTOM_DERIVATIVES,
      "jax/experimental/ode.py": _ODE,
      "jax/_src/BUILD": _BUILD,
      "tests/custom_api_test.py": _CUSTOM_API_TEST,
      "tests/ode_test.py": _ODE_TEST,
      "tests/BUILD": _TESTS_BUILD,
      "CHANGELOG.md": _CHANGELOG,
      "docs/jax.rst": _DOCS,
  }
  # What the patch takes from elsewhere.
  needed = collections.defaultdict(set)
  for f in [series.MIRROR / "jaxpr_key.py", *series.MIRRORS.values(),
            *series.DIRECTORY.glob("*/jax/**/*.py")]:
    text = f.read_text()
    found = imports.imports_of(text)
    for i in found.values():
      if i.module and i.module.partition(".")[0] == "jax":
        needed[i.module].add(i.attr)
    for name, attr in changes._attributes(text):
      if name[0] != "_" and name in found and (
          found[name].module or "").startswith("jax."):
        needed[f"{found[name].module}.{found[name].attr}"].add(attr)
  for module, names in needed.items():
    path = series.path_of(module)
    if module not in ("jax", "jax._src") and path not in files:
      files[path] = "".join(f"{name} = 0\n" for name in sorted(names))
  for name in needed["jax._src"]:
    files.setdefault(f"jax/_src/{name}.py", "")
  files |= {"jax/_src/__init__.py": "", "jax/lax.py": "__getattr__ = 0\n"}
  for path, text in files.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
  return files
