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

import pathlib
import subprocess

from jax._src import test_util as jtu

from upstream_diff import changes
from upstream_diff.base import Base

FILES = {}

FILES["jax/_src/custom_derivatives.py"] = '''\
from collections.abc import Callable
from typing import Any

from jax._src import core
from jax._src.api_util import debug_info
from jax._src.tree_util import tree_flatten
from jax._src.util import cache, safe_map, safe_zip

map = safe_map
zip = safe_zip

### Closures

# This comment belongs to the definition.
def closure_convert(fun: Callable, *example_args) -> tuple[Callable, list[Any]]:
  """Old."""
  _, in_tree = tree_flatten(example_args)
  return _closure_convert_for_avals(fun, in_tree, debug_info)

def _maybe_perturbed(x: Any) -> bool: return isinstance(x, core.Tracer)

@cache()
def _closure_convert_for_avals(fun, in_tree, debug):
  return fun, partition_list(_maybe_perturbed, in_tree)

def partition_list(choice, lst): return [choice(x) for x in lst]


### After

def linear_call(fun):  # This   stays as it is.
  return fun
'''

FILES["jax/_src/hashable_array.py"] = '''\
import numpy as np

class HashableArray: pass
'''

FILES["jax/custom_derivatives.py"] = '''\
from jax._src.custom_derivatives import (
  closure_convert as closure_convert,
  linear_call as linear_call,
)
SymbolicZero = custom_vjp_primal_tree_values = 0
'''

FILES["jax/experimental/ode.py"] = '''\
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


def ravel_first_arg(f, unravel): return f

def odeint(func, y0, t, *args, rtol=1., atol=1., mxstep=1, hmax=1):
  """Old."""
  return _odeint_wrapper(func, tree_leaves(args))

@jax.jit
def _odeint_wrapper(func, *args): return ravel_first_arg(func, ravel_pytree)

@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _odeint(func, *args): return lax.scan(func, jnp.ones(2))

def _odeint_fwd(func, *args): return _odeint(func), args

def _odeint_rev(func, res, g): return tree_map(op.itemgetter(1), res)

_odeint.defvjp(_odeint_fwd, _odeint_rev)
'''

FILES["tests/custom_api_test.py"] = '''\
from absl.testing import absltest
import numpy as np

import jax
from jax._src import config
from jax._src import custom_derivatives
from jax._src import test_util as jtu

config.parse_flags_with_absl()


class CustomJVPTest(jtu.JaxTestCase):

  def test_maybe_perturbed_internal_helper_function(self):
    custom_derivatives._maybe_perturbed(1)

  def test_maybe_perturbed_int_regression(self): pass

  def test_last(self): jax.grad(np.sin)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
'''

FILES["tests/ode_test.py"] = '''\
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

FILES["jax/_src/BUILD"] = '''\
pytype_strict_library(
    name = "basearray",
)

pytype_strict_library(
    name = "custom_derivatives",
    srcs = ["custom_derivatives.py"],
    deps = [
        ":core",
    ],
)

pytype_strict_library(
    name = "hashable_array",
)

pytype_strict_library(
    name = "literals",
)
'''

FILES["tests/BUILD"] = '''\
jax_multiplatform_test(
    name = "custom_api_test",
    srcs = ["custom_api_test.py"],
)

jax_multiplatform_test(
    name = "ode_test",
    deps = py_deps(["numpy"]),
)
'''

FILES["CHANGELOG.md"] = '''\
## Unreleased

* Changes
  * Something else.

* Bug fixes
  * Another.

## JAX 1.0
'''

FILES["docs/jax.rst"] = '''\
.. autosummary::
  :toctree: _autosummary

    closure_convert
    checkpoint

Vectorization
-------------
'''

FILES["jax/version.py"] = '_version = "0.12.0"\n'

# Modules from which the patches import any name.
for module in ("__init__", "lax", "flatten_util", "tree_util", "_src/__init__",
               "_src/api_util", "_src/basearray", "_src/interpreters/__init__",
               "_src/interpreters/partial_eval", "_src/lib/__init__",
               "_src/tree_util", "_src/util"):
  FILES[f"jax/{module}.py"] = "__getattr__ = 0\n"


def write(root, files):
  for path, text in files.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def read(root):
  return {f.relative_to(root).as_posix(): f.read_text()
          for f in sorted(root.rglob("*"))
          if f.is_file() and ".git" not in f.parts}


class FakeTreeTestCase(jtu.JaxTestCase):
  """Has such a tree in a directory, which can be a git repository."""

  def setUp(self):
    super().setUp()
    self.tmp = pathlib.Path(self.create_tempdir().full_path)
    self.tree = self.tmp / "tree"
    write(self.tree, FILES)

  def base(self):
    return Base.find(str(self.tree))

  def changed_files(self):
    return changes.changed_files(self.base())

  def replace(self, path, old, new):
    text = (self.tree / path).read_text()
    self.assertIn(old, text)
    (self.tree / path).write_text(text.replace(old, new))

  def git(self, *args):
    return subprocess.run(["git", *args], cwd=self.tree, check=True, text=True,
                          capture_output=True).stdout

  def commit_tree(self):
    self.git("init", "-q")
    self.git("config", "user.name", "A Person")
    self.git("config", "user.email", "a@b.c")
    self.git("add", ".")
    self.git("commit", "-qm", "base")
