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

"""A complete ``jax.closure_convert``, tried on an installed JAX.

Importing this package changes nothing. :func:`apply` puts the functions that
are defined here in the place of JAX's own, :func:`revert` takes them out again,
and :func:`patched` does both around a block or a function. :func:`status` says
what is in place. ``python -m jax_patch script.py`` runs a program unchanged
with the patch in place, and ``python -m pytest -p jax_patch.pytest_plugin`` a
test suite.

There are three kinds of files in this package:

- **Mirrors** stand for the upstream file of the same name, and hold what
  changes in it: ``custom_derivatives.py`` and ``experimental/ode.py``.
  ``api.py`` lists those of their names that appear on ``jax`` itself.
- **New upstream** is ``jaxpr_key.py``, which the diff adds.
- **Delivery** applies the patch, and is not in the diff: ``pytest_plugin.py``,
  and all whose name starts with an underscore.
"""

# Note: import <name> as <name> is required for names to be exported.
# See PEP 484 & https://github.com/jax-ml/jax/issues/7570
from jax_patch._patch import (
    apply as apply,
    patched as patched,
    revert as revert,
)
from jax_patch._status import status as status

__all__ = ["apply", "patched", "revert", "status"]
__version__ = "0.1.0"
