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

"""The examples in the docstrings run, and print what they claim."""

import doctest
import inspect
import re
import textwrap

from absl.testing import absltest

import jax
import jax.numpy as jnp
from jax._src import config
from jax._src import test_util as jtu

from jax_patch import custom_derivatives

jax.config.parse_flags_with_absl()


def _code_blocks(docstring):
  # What is indented below a paragraph that ends in a double colon.
  return map(textwrap.dedent, re.findall(
      r"::\n((?:\n|  .*\n)+)", inspect.cleandoc(docstring) + "\n"))


class DocstringTest(jtu.JaxTestCase):

  def test_closure_convert(self):
    # The first one is upstream's outline.
    _, reverse, forward = _code_blocks(jax.closure_convert.__doc__)
    *lines, last = reverse.strip().splitlines()
    call, x, y = re.fullmatch(r"(.*)  # .*: \[1/(\d), 1/(\d)\]", last).groups()
    expected = jnp.array([1 / int(x), 1 / int(y)])
    env = {"jax": jax, "jnp": jnp}
    for source in "\n".join(lines), forward:
      exec(source, env)
      self.assertAllClose(eval(call, env), expected, check_dtypes=False,
                          rtol=1e-5)
    hessian = jax.hessian(env["loss"])(jnp.array([4., 9.]))
    self.assertAllClose(hessian, jnp.diag(jnp.array([4., 9.]) ** -1.5 / -4),
                        check_dtypes=False, rtol=1e-4)

  def test_doctests(self):
    with config.enable_x64(False):
      failed, attempted = doctest.testmod(custom_derivatives)
    self.assertEqual(failed, 0)
    self.assertGreater(attempted, 4)


if __name__ == '__main__':
  absltest.main(testLoader=jtu.JaxTestLoader())
