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

"""Runs a program unchanged under the patch: ``python -m jax_patch``."""

import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import types

import jax_patch
from jax_patch._delivery import import_hook

_USAGE = """\
usage: python -m jax_patch [--children] [-m MODULE | -c CODE | SCRIPT] [ARG ...]
       python -m jax_patch --status | --version | --help"""

_HELP = f"""\
{_USAGE}

The program runs as if python itself ran it: sys.argv, sys.path, __main__, exit
code and tracebacks are the same. SCRIPT may be a directory or a zip file that
has a __main__.py. All arguments after the program's name belong to the program.
Python's own options go before -m: python -O -m jax_patch SCRIPT.

--status prints which JAX is installed, whether the patch can be applied to it,
and which names the patch replaces. The exit code is 1 if it cannot be applied.

These processes are patched:

- The program itself, the processes that it forks, and the workers of
  pytest-xdist if it runs pytest.
- With --children, every Python process that it starts, and those that these
  start in turn: by multiprocessing (spawn and forkserver), concurrent.futures
  or subprocess. The option puts a directory of this package first in
  PYTHONPATH. A starting Python imports the sitecustomize in that directory,
  which applies the patch as soon as JAX is imported, and then runs the
  environment's own sitecustomize.

These are not:

- Without --children, all other processes.
- With it, processes that are started with -I, -E or -S, or without the
  PYTHONPATH that they would inherit.

Such a process calls jax_patch.apply() itself. For a pool that is spawned, call
it at the top of the program's file, before any function is imported from JAX:
the workers import that file."""

# The directory of our sitecustomize.
_CHILDREN = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "_delivery", "children")


def _main():
  kind, *rest = sys.argv[1:] or [""]
  if kind == "--children":
    _patch_children()
    kind, *rest = rest or [""]
  if kind in ("-h", "--help"):
    print(_HELP)
  elif kind == "--version" and not rest:
    print(f"jax_patch {jax_patch.__version__}")
  elif kind == "--status" and not rest:
    report = jax_patch.status()
    print(report)
    sys.exit(1 if report.refusal else 0)
  elif kind in ("-m", "-c") and rest:
    _run(kind, *rest)
  elif kind and not kind.startswith("-"):
    _run("", kind, *rest)
  elif kind in ("--status", "--version"):
    _wrong_usage(f"{kind} takes no arguments")
  elif kind in ("-m", "-c"):
    _wrong_usage(f"{kind} needs an argument")
  elif kind.startswith("--"):
    _wrong_usage(f"unknown option {kind}")
  elif kind:
    _wrong_usage(f"unknown option {kind}. Python's own options go before -m:"
                 f" python {kind} -m jax_patch ...")
  else:
    _wrong_usage("no program given")


def _wrong_usage(problem):
  print(f"{_USAGE}\nerror: {problem}", file=sys.stderr)
  sys.exit(2)


def _patch_children():
  if sys.flags.ignore_environment or sys.flags.no_site:
    # multiprocessing starts processes with the options of this one.
    _wrong_usage("--children needs PYTHONPATH and sitecustomize, which python"
                 " ignores with -I, -E or -S")
  paths = os.environ.get("PYTHONPATH")
  os.environ["PYTHONPATH"] = (
      f"{_CHILDREN}{os.pathsep}{paths}" if paths else _CHILDREN)


def _name_pytest_plugin():
  # The workers of pytest-xdist load plugins, and nothing else of ours.
  others = os.environ.get("PYTEST_PLUGINS")
  plugin = "jax_patch.pytest_plugin"
  os.environ["PYTEST_PLUGINS"] = f"{others},{plugin}" if others else plugin


def _run(kind, program, *args):
  """Runs a program in a new ``__main__`` module."""
  sys.argv[:] = [program if not kind else kind, *args]
  prepare = {"": _script, "-m": _module, "-c": _command}[kind]
  try:
    import_hook.apply_when_jax_is_imported()
    import_hook.after_import("pytest", _name_pytest_plugin)
    # With -m, this imports the module's package, which may import JAX.
    main, code = prepare(program)
    main.__name__ = "__main__"
    main.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main
    exec(code, vars(main))
  except BaseException as error:
    _forget_launcher(error)
    raise


def _script(path):
  # Like python, make the path absolute, and do not normalize it.
  file = os.path.join(os.getcwd(), path)
  importer = pkgutil.get_importer(file)
  if importer is not None and hasattr(importer, "find_spec"):
    spec = importer.find_spec("__main__")
    if spec is not None:
      _set_first_path(file, even_if_safe=True)
      main = importlib.util.module_from_spec(spec)
      return main, spec.loader.get_code("__main__")
  if os.path.isdir(file):
    sys.exit(f"{sys.executable}: can't find '__main__' module in {file!r}")
  _set_first_path(os.path.dirname(os.path.realpath(file)))
  loader = importlib.machinery.SourceFileLoader("__main__", file)
  try:
    source = loader.get_data(file)
  except OSError as error:
    print(f"{sys.executable}: can't open file {file!r}: [Errno {error.errno}]"
          f" {error.strerror}", file=sys.stderr)
    sys.exit(2)
  spec = importlib.util.spec_from_file_location("__main__", file, loader=loader)
  main = importlib.util.module_from_spec(spec)
  main.__spec__ = main.__package__ = main.__cached__ = None
  # get_code() would leave a __pycache__ beside the script.
  return main, loader.source_to_code(source, file)


def _module(name):
  spec = _find(name)
  if spec is None:
    sys.exit(f"{sys.executable}: No module named {name}")
  if spec.submodule_search_locations is not None:
    package, spec = name, _find(f"{name}.__main__")
    if spec is None:
      sys.exit(f"{sys.executable}: No module named {package}.__main__;"
               f" {package!r} is a package and cannot be directly executed")
  code = spec.loader.get_code(spec.name)
  if code is None:
    sys.exit(f"{sys.executable}: No code object available for {name}")
  sys.argv[0] = spec.origin
  return importlib.util.module_from_spec(spec), code


def _find(name):
  try:
    return importlib.util.find_spec(name)
  except ModuleNotFoundError as error:
    # If the package exists and lacks another module, the error is its own.
    if error.name and f"{name}.".startswith(f"{error.name}."):
      return None
    raise


def _command(code):
  _set_first_path("")
  main = types.ModuleType("__main__")
  main.__loader__ = importlib.machinery.BuiltinImporter
  return main, compile(code, "<string>", "exec")


def _set_first_path(path, even_if_safe=False):
  # The first entry is the launcher's, which python -P does not add.
  if not sys.flags.safe_path:
    sys.path[0] = path
  elif even_if_safe:
    sys.path.insert(0, path)


def _forget_launcher(error):
  # Install our excepthook only after the program has ended, so that the program
  # never sees it. The caller raises the error again, so that Python itself
  # chooses the exit code, also for an interrupt.
  shown = error.__traceback__
  while shown is not None and shown.tb_frame.f_code.co_filename.startswith(
      (__file__, "<frozen ")):
    shown = shown.tb_next
  excepthook = sys.excepthook

  def show(kind, value, traceback):
    sys.excepthook = excepthook
    if value is error:
      value, traceback = value.with_traceback(shown), shown
    excepthook(kind, value, traceback)

  sys.excepthook = show


if __name__ == "__main__":
  _main()
