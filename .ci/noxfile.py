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

"""Every JAX that the patch is for, each in an environment of its own.

  nox -f .ci/noxfile.py                      # all of them
  nox -f .ci/noxfile.py -s "versions(jax='0.11.2')" -- full
  nox -f .ci/noxfile.py -s jax_0_2_7 -- UPSTREAM_TREE
  nox -f .ci/noxfile.py -s mutants           # hours on two processors
  nox -f .ci/noxfile.py -l

A session runs the tests, the examples and the check of the diff, and writes its
row in ``docs/versions.csv``, from which ``docs/versions.md`` is made. With
``stacks``, the long suites run too, which are stacks of transformations; with
``full``, also the check runs all of its tests, and not a sample; with ``some``,
only the suites run that depend most on the version; with ``without-check``, the
check does not run. A suite that runs leaves nothing out.
"""

import collections
import csv
import glob
import os
import pathlib
import shutil
import sys
import xml.etree.ElementTree

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_missing_interpreters = True
nox.options.stop_on_first_error = False

# The last release of each minor version, on a Python that it supports.
VERSIONS = {"0.10.2": "3.11", "0.11.2": "3.13", "0.12.0.1": "3.13"}
LONG_SUITES = ("tests/closures/composition_test.py",)
SOME_SUITES = "upstream", "odeint", "processes"

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = ("jax", "python", "suites", "passed", "failed", "skipped",
           "examples", "diff applies", "diff check")

# Pythons that pyenv has installed are found without being the global one.
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *sorted(glob.glob(
    f"{os.environ.get('PYENV_ROOT', os.path.expanduser('~/.pyenv'))}"
    "/versions/*/bin"))])


@nox.session
@nox.parametrize(
    "python,jax", [nox.param(python, jax, id=f"jax='{jax}'")
                   for jax, python in VERSIONS.items()])
def versions(session, jax):
  """Tests, examples and the check of the diff on one release of JAX."""
  session.chdir(ROOT)
  session.env["JAX_PATCH_ALL_TESTS"] = "1"
  session.install(".[test]", f"jax=={jax}", f"jaxlib=={jax}")
  full = "full" in session.posargs
  report = pathlib.Path(session.create_tmp()).resolve() / "report.xml"
  if full or "stacks" in session.posargs:
    suites, selected = "all", []
  elif "some" in session.posargs:
    suites, selected = ", ".join(SOME_SUITES), [
        f"tests/{folder}" for folder in SOME_SUITES]
  else:
    suites, selected = "all but the stacks", [
        f"--ignore={f}" for f in LONG_SUITES]
  ok = [_succeeds(session, "python", "-m", "pytest", "-q", "-n", "auto",
                  f"--junitxml={report}", *selected)]
  counts = _counts(report)
  examples = [_succeeds(session, "python", "-m", "jax_patch", example)
              for example in sorted(glob.glob("docs/examples/*.py"))]
  diff, pristine = report.with_name("patch.diff"), report.with_name("pristine")
  found = session.run(
      "python", "-c", "import jax; print(*jax.__path__)", silent=True)
  shutil.rmtree(pristine, ignore_errors=True)
  shutil.copytree(found.splitlines()[-1], pristine / "jax")
  # There is no diff for JAX 0.10, which is older than what the mirrors spell.
  has_diff = not jax.startswith("0.10.")
  applies = not has_diff or _succeeds(
      session, "python", "-m", "upstream_diff", "-o", str(diff)
  ) and _applies(session, diff, pristine)
  if "without-check" in session.posargs or not has_diff:
    check = ""
  else:
    check = _succeeds(session, "python", "-m", "upstream_diff", "--check",
                      *([] if full else ["--quick"]))
  _record({
      "jax": jax, "python": session.python,
      "suites": suites,
      **counts, "examples": f"{sum(examples)} of {len(examples)}",
      "diff applies": applies if has_diff else "", "diff check": check})
  if not all([*ok, *examples, applies, check is not False]):
    session.error(f"jax {jax}, Python {session.python}: not as it should be")


@nox.session(python="3.9")
def jax_0_2_7(session):
  """The patch for jax 0.2.7: red without it, green with it."""
  session.chdir(ROOT)
  session.install(
      "jaxlib==0.4.13", "numpy==1.21.6", "scipy==1.7.3", "ml_dtypes==0.2.0",
      "opt_einsum==3.3.0", "absl-py", "pytest")
  tmp = pathlib.Path(session.create_tmp()).resolve()
  trees = [pathlib.Path(arg).resolve() for arg in session.posargs
           if arg not in ("stacks", "full", "some", "without-check")]
  if not trees:
    session.run("python", "-m", "pip", "download", "-q", "--no-deps",
                "--no-binary=jax", "jax==0.2.7", "-d", str(tmp))
    session.run("tar", "xzf", str(tmp / "jax-0.2.7.tar.gz"), "-C", str(tmp),
                external=True)
    trees = [tmp / "jax-0.2.7"]
  tree, = trees
  diff, patched = tmp / "patch.diff", tmp / "patched"
  # The tool needs a newer Python than that JAX does.
  session.run(sys.executable, "-m", "upstream_diff", "--upstream", str(tree),
              "-o", str(diff), external=True)
  session.run("rm", "-rf", str(patched), external=True)
  session.run("cp", "-r", str(tree), str(patched), external=True)
  applies = _applies(session, diff, patched)

  mirror = ROOT / "upstream_diff" / "jax_0_2_7"
  suites = [str(mirror / f"{name}_test.py") for name in ("api", "ode")]
  def passes(tree, *tests):
    report = tmp / "report.xml"
    env = {"PYTHONPATH": os.pathsep.join([str(mirror), str(tree)])}
    done = _succeeds(
        session, "python", "-m", "pytest", "-q", "--tb=no", "-p", "jaxlib_shim",
        "-c", os.devnull, f"--rootdir={tmp}", f"--junitxml={report}", *tests,
        env=env)
    return done, _counts(report)
  red, before = passes(tree, *suites)
  green, after = passes(patched, *suites)
  _record({"jax": "0.2.7", "python": session.python, "suites": "its own",
           **after, "examples": "", "diff applies": applies,
           "diff check": f"{before['failed']} failed before"})
  if red or not green or not applies:
    session.error("the suite is to fail without the patch, and to pass with it")
  if (patched / "tests").is_dir():
    # Upstream's own, with the new ones in them. Those that need kernels of
    # linear algebra cannot pass, before or after.
    session.chdir(patched / "tests")
    own = [patched / "tests" / f"{name}_test.py" for name in ("api", "ode")]
    _, counts = passes(patched, *map(str, own), "-k",
                       "CustomJVPTest or CustomVJPTest or ODETest")
    session.log(f"upstream's own tests: {counts}")


@nox.session(python="3.12", default=False)
def mutants(session):
  """Runs the tests on mutants of the mirrors, and writes docs/mutants.md."""
  session.chdir(ROOT)
  session.install(".[test]", "jax==0.11.2", "jaxlib==0.11.2", "cosmic-ray")
  # A second run continues the first: remove the file to start again.
  results = f"--results={session.create_tmp()}/mutants.jsonl"
  session.run("python", ".ci/mutants.py", "run", results, *session.posargs)
  session.run("python", ".ci/mutants.py", "table", results)


@nox.session(python=False)
def table(session):
  """Makes docs/versions.md of the rows that were written."""
  _write_table()


def _succeeds(session, *command, **kwargs):
  try:
    session.run(*command, **kwargs)
  except nox.command.CommandFailed:
    return False
  return True


def _applies(session, diff, tree):
  # It takes no fuzz. In a repository it would leave out what is not in there.
  with session.chdir(tree):
    return _succeeds(
        session, "git", "apply", "--whitespace=error-all", str(diff),
        external=True, env={"GIT_CEILING_DIRECTORIES": str(tree.parent)})


def _counts(report):
  kinds = collections.Counter(passed=0, failed=0, skipped=0)
  if report.exists():
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
      tags = {child.tag for child in case}
      kinds["failed" if tags & {"failure", "error"} else
            "skipped" if "skipped" in tags else "passed"] += 1
  return kinds


def _record(row):
  file = ROOT / "docs" / "versions.csv"
  rows = {}
  if file.exists():
    with file.open(newline="") as f:
      rows = {r["jax"]: r for r in csv.DictReader(f)}
  yes = {True: "yes", False: "NO"}
  rows[row["jax"]] = {k: yes.get(v, v) if isinstance(v, bool) else v
                      for k, v in row.items()}
  with file.open("w", newline="") as f:
    writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(
        rows.values(), key=lambda r: [*map(int, r["jax"].split("."))]))
  _write_table()


def _write_table():
  with (ROOT / "docs" / "versions.csv").open(newline="") as f:
    rows = [list(COLUMNS), ["---"] * len(COLUMNS),
            *[[r[c] for c in COLUMNS] for r in csv.DictReader(f)]]
  lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
  intro = (ROOT / ".ci" / "versions_intro.md").read_text()
  (ROOT / "docs" / "versions.md").write_text(
      intro + "\n" + "\n".join(lines) + "\n")
