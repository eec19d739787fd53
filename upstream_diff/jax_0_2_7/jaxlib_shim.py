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

"""Has jax 0.2.7 run on jaxlib 0.4.13, on the CPU: to be imported before it.

The jaxlib of its time can no longer be had. What it asks for and a later one
does not have is put in its place here. There are no linear algebra kernels, and
timings and the texts of some errors are not what they were.
"""

import sys
import types

import jaxlib
import jaxlib.version
from jaxlib import xla_client as xc
import numpy as np

if jaxlib.version.__version__ != "0.4.13":
  raise ImportError(f"jaxlib 0.4.13 it has to be, and this is "
                    f"{jaxlib.version.__version__}")
jaxlib.version.__version__ = jaxlib.__version__ = "0.1.57"
_xla = xc._xla


class _Buffer:
  """The interface of a buffer then, over an array of a single device now."""

  def __init__(self, array, device, client):
    self._array = array
    self._device = device
    self.client = client

  def device(self):
    return self._device

  def platform(self):
    return self._device.platform

  def to_py(self):
    return np.asarray(self._array._single_device_array_to_np_array())

  def block_host_until_ready(self):
    self._array.block_until_ready()

  def copy_to_host_async(self):
    pass

  def delete(self):
    self._array.delete()

  def is_deleted(self):
    return self._array.is_deleted()

  def copy_to_device(self, device):
    return self.client.buffer_from_pyval(self.to_py(), device)

  def xla_shape(self):
    x = self.to_py()
    return xc.Shape.array_shape(x.dtype, x.shape)

  shape = xla_shape


class _Executable:

  def __init__(self, executable, client):
    self._executable = executable
    self._client = client
    self._devices = executable.local_devices()

  def local_devices(self):
    return self._devices

  def execute(self, args):
    outs = self._executable.execute([x._array for x in args])
    return [_Buffer(x, self._devices[0], self._client) for x in outs]

  def execute_on_local_devices(self, args):
    by_arg = [list(column) for column in zip(
        *[[x._array for x in row] for row in args])]
    outs = self._executable.execute_sharded_on_local_devices(by_arg)
    return [[_Buffer(out[i], device, self._client) for out in outs]
            for i, device in enumerate(self._devices)]

  def __getattr__(self, name):
    return getattr(self._executable, name)


class _Client:

  def __init__(self, client):
    self._client = client

  def buffer_from_pyval(self, x, device=None, force_copy=False, **_):
    device = device or self._client.local_devices()[0]
    semantics = xc.HostBufferSemantics.IMMUTABLE_ONLY_DURING_CALL
    array = self._client.buffer_from_pyval(
        np.asarray(x), device, force_copy=False,
        host_buffer_semantics=semantics)
    return _Buffer(array, device, self)

  def compile(self, computation, compile_options=None):
    options = compile_options or xc.CompileOptions()
    if options.parameter_is_tupled_arguments:
      # Parameters that are tuples end the process. So the computation is called
      # by one that has a parameter for each element.
      shape, = computation.program_shape().parameter_shapes()
      builder = xc.XlaBuilder("untupled_args")
      params = [
          xc.ops.Parameter(builder, i, s.with_major_to_minor_layout_if_absent())
          for i, s in enumerate(shape.tuple_shapes())]
      root = xc.ops.Call(
          builder, computation, [xc.ops.Tuple(builder, params)])
      computation = builder.build(root)
      options.parameter_is_tupled_arguments = False
    module = _xla.mlir.xla_computation_to_mlir_module(computation)
    return _Executable(self._client.compile(module, options), self)

  def __getattr__(self, name):
    return getattr(self._client, name)


_client = None

def _get_local_backend(platform=None):
  global _client
  if platform not in (None, "cpu"):
    raise RuntimeError(f"Unknown platform {platform}")
  if _client is None:
    _client = _Client(xc.make_cpu_client())
  return _client

xc.get_local_backend = _get_local_backend
xc._get_local_backends = lambda: {"cpu": _get_local_backend()}
xc.Buffer = _xla.PyLocalBuffer = _Buffer
xc.LocalBackend = _Client
_xla.LocalExecutable = _Executable
_xla.LocalClient = _Client
xc.Traceback.enabled = True


_jit_disabled = False

def _set_disable_jit(value):
  global _jit_disabled
  _jit_disabled = value

def _jit(fun, cache_miss, *_, **__):
  def call(*args, **kwargs):
    if _jit_disabled:
      return fun(*args, **kwargs)
    return cache_miss(*args, **kwargs)[0]
  return call

_xla.jax_jit.get_disable_jit = lambda: _jit_disabled
_xla.jax_jit.set_disable_jit = _set_disable_jit
_xla.jax_jit.jit = _jit


def _module_without_kernels(name):
  module = types.ModuleType(f"jaxlib.{name}")
  for kernel in ("potrf", "getrf", "geqrf", "orgqr", "syevd", "gesdd", "gesvd",
                 "geev", "trsm", "jax_trsm"):
    def missing(*_, kernel=kernel, **__):
      raise NotImplementedError(f"There is no jaxlib.{name}.{kernel} here.")
    setattr(module, kernel, missing)
  sys.modules[module.__name__] = module
  setattr(jaxlib, name, module)

_module_without_kernels("cusolver")
_module_without_kernels("lapack")
