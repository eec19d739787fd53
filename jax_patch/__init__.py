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

"""A complete ``jax.closure_convert``, as a patch to an installed JAX.

Importing this package changes nothing. :func:`apply` replaces JAX's functions
with those of this package, :func:`revert` restores them, and :func:`patched`
does both, around a block or a function. :func:`status` reports which names are
replaced. ``python -m jax_patch script.py`` runs a program under the patch,
``python -m pytest -p jax_patch.pytest_plugin`` a test suite, and
``%load_ext jax_patch`` applies the patch in a notebook.

===========================  ==================================================
file                         purpose
===========================  ==================================================
``custom_derivatives.py``    mirror of ``jax/_src/custom_derivatives.py``
``jaxpr_key.py``             mirror of ``jax/_src/jaxpr_key.py``, a new file
``hashable_array.py``        mirror of ``jax/_src/hashable_array.py``
``experimental/ode.py``      mirror of ``jax/experimental/ode.py``
``api.py``                   the mirrors' names in ``jax/__init__.py``
``_edit.py``                 lets a mirror change one expression of a function
``_delivery/``               applies the mirrors to an installed JAX
``__main__.py``              ``python -m jax_patch``
``pytest_plugin.py``         ``-p jax_patch.pytest_plugin``
===========================  ==================================================

A **mirror** holds the definitions that change in the upstream file, and
``upstream_diff`` makes the diff from them. No other file goes upstream.
"""

# Note: import <name> as <name> is required for names to be exported.
# See PEP 484 & https://github.com/jax-ml/jax/issues/7570
from jax_patch._delivery.patch import (
    apply as apply,
    patched as patched,
    revert as revert,
)
from jax_patch._delivery.status import status as status

__all__ = ["apply", "patched", "revert", "status"]
__version__ = "0.1.0"


def load_ipython_extension(ipython):
  """Applies the patch: IPython calls this for ``%load_ext jax_patch``."""
  del ipython
  apply()


def unload_ipython_extension(ipython):
  """Reverts the patch: IPython calls this for ``%unload_ext jax_patch``."""
  del ipython
  revert()
