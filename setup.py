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

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

_root = pathlib.Path(__file__).parent


# Importing the modules would need JAX, and this directory on the path.
def _constant(path, name):
  text = (_root / path).read_text(encoding="utf-8")
  return re.search(rf'^{name} = "(.*)"$', text, re.MULTILINE)[1]


class _BuildAnew(build_py):

  def run(self):
    # Modules of an earlier build, which may be gone since, must not be packed.
    if not self.editable_mode:
      shutil.rmtree(self.build_lib, ignore_errors=True)
    super().run()


_readme = _root / "README.md"

setup(
    name="jax-patch",
    version=_constant("jax_patch/__init__.py", "__version__"),
    description="A complete jax.closure_convert, tried on an installed JAX.",
    long_description=(
        _readme.read_text(encoding="utf-8") if _readme.exists() else ""),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
    # upstream_diff reads the tests, and so runs in a clone only.
    packages=find_packages(include=["jax_patch", "jax_patch.*"]),
    package_data={
        "jax_patch": ["py.typed"],
        "jax_patch._delivery": ["children/*.py"],
    },
    python_requires=">=3.11",
    install_requires=[
        "jax" + _constant("jax_patch/_delivery/patch.py", "TESTED_JAX"),
        "jaxlib",
        "numpy",
    ],
    cmdclass={"build_py": _BuildAnew},
    extras_require={
        "test": ["absl-py", "hypothesis", "pytest", "pytest-xdist", "ruff",
                 "scipy"],
        "benchmark": ["equinox", "diffrax", "matplotlib"],
        "docs": ["sphinx", "sphinx-book-theme", "sphinx-copybutton", "myst-nb",
                 "matplotlib", "equinox", "scipy", "pytest", "pytest-xdist"],
    },
)
