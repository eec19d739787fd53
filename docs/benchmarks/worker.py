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

"""The processes that run the cases. Only they import JAX."""

import multiprocessing
import time


def serve(kind, pipe):
  """Answers requests until the pipe is closed."""
  if kind == "ours":
    import jax_patch
    jax_patch.apply()
  import cases
  import memory_cases
  known = {**vars(memory_cases), **vars(cases)}
  runs, lowerings = {}, _count_lowerings()
  while True:
    try:
      request, *args = pipe.recv()
    except EOFError:
      return
    try:
      if request == "versions":
        answer = _versions()
      elif request == "start":
        name, way, size = args
        runs[way] = run = known[name](way, size)
        _timed(run)
        before = len(lowerings)
        result = run()
        answer = _checksum(result), len(lowerings) - before
      elif request == "time":
        way, seconds, most = args
        answer = _block(runs[way], seconds, most)
      elif request == "done":
        runs.clear()
        answer = None
      else:
        name, way, count, seconds = args
        answer = memory_cases.retained(known[name](way), count, seconds)
      pipe.send(("ok", answer))
    except cases.Unavailable as e:
      pipe.send(("unavailable", str(e)))
    except Exception as e:
      first_line, *_ = str(e).splitlines() or [""]
      pipe.send(("failed", f"{type(e).__name__}: {first_line}"))

def _timed(run):
  import jax
  start = time.perf_counter()
  result = run()
  if isinstance(result, float):
    return result
  jax.block_until_ready(result)
  return time.perf_counter() - start

def _block(run, seconds, most):
  # The first call also refills the caches of the processor, which the other
  # processes have used in the meantime.
  first = _timed(run)
  if first > seconds / 4:
    return [first]
  end = time.perf_counter() + seconds
  times = []
  while time.perf_counter() < end and len(times) < most:
    times.append(_timed(run))
  return times

def _count_lowerings():
  import jax
  lowerings = []
  def listen(event, seconds, **kwargs):
    if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
      lowerings.append(event)
  jax.monitoring.register_event_duration_secs_listener(listen)
  return lowerings

def _checksum(result):
  import jax
  import numpy as np
  if isinstance(result, float):
    return 0.
  return float(sum(np.sum(np.abs(x)) for x in jax.tree.leaves(result)))

def _versions():
  import importlib.metadata
  import jax
  versions = {"jax": jax.__version__}
  for name in "jaxlib", "numpy", "equinox":
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = "not installed"
  return {**versions, "device": jax.devices()[0].device_kind}


class Workers:
  """The worker processes, each of which starts at its first request."""

  def __init__(self):
    self._context = multiprocessing.get_context("spawn")
    self._workers = {}

  def ask(self, kind, *request):
    if kind not in self._workers:
      ours, theirs = self._context.Pipe()
      process = self._context.Process(
          target=serve, args=(kind, theirs), daemon=True)
      process.start()
      theirs.close()
      self._workers[kind] = process, ours
    _, pipe = self._workers[kind]
    pipe.send(request)
    try:
      return pipe.recv()
    except EOFError:
      del self._workers[kind]
      return "failed", "the process died"

  def kinds(self):
    return list(self._workers)

  def stop(self):
    for process, pipe in self._workers.values():
      pipe.close()
      process.join()
    self._workers.clear()
