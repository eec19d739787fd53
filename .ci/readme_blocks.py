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

"""Runs the Python blocks of the README, under the patch and without it.

A block after `<!-- fails on stock JAX, prints OUTPUT with the patch -->` must
do so. Any other block must run under the patch.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).parent.parent
_BLOCK = re.compile(
    r"^(?:<!-- fails on stock JAX, prints (.*) with the patch -->\n)?"
    r"```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

def _run(path, *options):
  return subprocess.run([sys.executable, "-W", "error", *options, path],
                        cwd=_ROOT, capture_output=True, text=True)

def main():
  blocks = _BLOCK.findall((_ROOT / "README.md").read_text(encoding="utf-8"))
  if not any(output for output, _ in blocks):
    sys.exit("The README has no block that fails on stock JAX.")
  with tempfile.TemporaryDirectory() as directory:
    path = str(pathlib.Path(directory, "block.py"))
    for output, code in blocks:
      pathlib.Path(path).write_text(code, encoding="utf-8")
      patched = _run(path, "-m", "jax_patch")
      if patched.returncode:
        sys.exit(f"This block fails under the patch:\n{code}\n{patched.stderr}")
      if output:
        printed = patched.stdout
        if printed.replace(" ", "").strip() != output.replace(" ", ""):
          sys.exit(f"This block prints {printed}and not {output}:\n{code}")
        if not _run(path).returncode:
          sys.exit(f"This block works on stock JAX:\n{code}")
  print(f"{len(blocks)} Python blocks of the README do what it says")

if __name__ == "__main__":
  main()
