"""One process of a run of the toy task over several.

one_process.py --processes=127.0.0.1:PORT,INDEX,COUNT --workdir=DIR [--steps=N] [--every=N]
"""

import dataclasses

import toy  # lies beside this script
from absl import flags

from vitok_jax import cli
from vitok_jax.sharding import processes

WORKDIR = flags.DEFINE_string("workdir", None, "Of the run.")
STEPS = flags.DEFINE_integer("steps", 10, "Of the run.")


def main() -> None:
    processes.join()
    import jax

    from vitok_jax.training import loop

    assert jax.device_count() == 8
    settings = toy.ToyConfig()
    training = dataclasses.replace(settings.training, steps=STEPS.value)
    if STEPS.value > settings.training.steps:
        training = dataclasses.replace(training, log_every=1, eval_every=0)
    settings = dataclasses.replace(settings, training=training)
    loop.train(toy.ToyTask(settings), settings, WORKDIR.value, evaluators=[])


if __name__ == "__main__":
    cli.run(main)
