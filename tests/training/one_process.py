"""One process of a run of the toy task over several: `one_process.py INDEX COUNT PORT WORKDIR`."""

import sys

import jax
import toy  # lies beside this script

from vitok_jax.training import loop

INDEX, COUNT, PORT, WORKDIR = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{PORT}", COUNT, INDEX)
assert jax.device_count() == COUNT * jax.local_device_count() == 8

settings = toy.ToyConfig()
loop.train(toy.ToyTask(settings), settings, WORKDIR, evaluators=[])
