"""Trains a diffusion transformer in the latent space of a tokenizer.

python -m vitok_jax.train_dit --config=configs/dit/demo.py --workdir=DIR \
      --config.tokenizer=TOKENIZER_DIR
"""

import logging

from absl import flags
from etils import epath
from ml_collections import config_flags

from vitok_jax import cli, errors
from vitok_jax.sharding import processes

# JAX, Orbax and the rest are imported in `main`: data workers import this module again.

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings, for example of configs/dit.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: local or gs://.")


def main() -> None:
    """Trains from the command line's settings, or goes on where the workdir stands."""
    cli.require("config", "workdir")
    processes.join()
    import jax

    from vitok_jax import config as config_lib
    from vitok_jax import generator, tokenizer
    from vitok_jax.evaluation import generation
    from vitok_jax.tasks import dit
    from vitok_jax.telemetry import log
    from vitok_jax.training import loop

    config = config_lib.from_config_dict(config_lib.DitRunConfig, _CONFIG.value)
    if not config.tokenizer:
        raise errors.UsageError("--config.tokenizer is missing; allowed: a tokenizer's workdir")
    log.show(logging.INFO if jax.process_index() == 0 else logging.WARNING)
    loaded = tokenizer.load(config.tokenizer)
    workdir = epath.Path(_WORKDIR.value)
    space = generator.space_for_training(loaded, config, workdir)
    log.logger().info(
        "latents of %s: %d channels, standard deviations %.3g to %.3g (condition %.3g)",
        space.path,
        space.channels,
        space.scale.min(),
        space.scale.max(),
        space.condition,
    )
    task = dit.DitTask(config, space)
    evaluators = []
    if config.training.eval_every:
        evaluators = generation.for_training(config, task, loaded.params["decoder"])
    notes = {generator.NOTE: space.describe()}
    loop.train(task, config, workdir, evaluators=evaluators, notes=notes)


if __name__ == "__main__":
    cli.run(main)
