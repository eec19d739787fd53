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

"""The names of the mirrors that ``jax`` itself exports.

Like ``jax/__init__.py``, this file only imports them, and defines nothing.
``jax_patch.apply()`` replaces them on ``jax``, too.
"""

from jax_patch.custom_derivatives import closure_convert as closure_convert
