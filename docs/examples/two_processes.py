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
"""The gradient of odeint over a mesh of the devices of two processes.

  python -m jax_patch docs/examples/two_processes.py

starts both on this machine. Each has four devices, and prints its part.
"""

import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np


def main(address: str, process: int):
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.config.update("jax_num_cpu_devices", 4)
  jax.distributed.initialize(address, num_processes=2, process_id=process)
  mesh = jax.make_mesh((8,), ("x",))
  rates = np.arange(1., 9., dtype="float32")
  k = jax.make_array_from_callback(
      (8,), NamedSharding(mesh, P("x")), rates.__getitem__)

  def solve(k):  # For each shard, with a captured rate.
    return odeint(lambda y, t: -k * y, jnp.ones(1), jnp.array([0., 1.]))[-1]

  mapped = jax.shard_map(solve, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
  k_bar = jax.jit(jax.grad(lambda k: mapped(k).sum()))(k)
  mine = np.concatenate([shard.data for shard in k_bar.addressable_shards])
  error = abs(mine + np.exp(-rates[4 * process:][:4])).max()
  print(f"process {process} of {jax.process_count()}: {len(mine)} of"
        f" {k_bar.size} derivatives, right to {error:.0e}")


if __name__ == "__main__":
  if len(sys.argv) > 1:
    main(sys.argv[1], int(sys.argv[2]))
  else:
    with socket.socket() as s:
      s.bind(("localhost", 0))
      address = f"localhost:{s.getsockname()[1]}"
    processes = [subprocess.Popen(
        [sys.executable, "-m", "jax_patch", __file__, address, str(i)])
                 for i in range(2)]
    sys.exit(max(p.wait(timeout=100) for p in processes))
