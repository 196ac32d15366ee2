"""Trains a tokenizer.

python -m vitok_jax.train_tokenizer --config=configs/tokenizer/demo.py --workdir=DIR \
      --config.optimizer.learning_rate=1e-3
"""

import dataclasses
import logging
from typing import Any

from absl import flags
from ml_collections import config_flags

from vitok_jax import cli
from vitok_jax.sharding import processes

# JAX, Orbax and the rest are imported in `main`: data workers import this module again.

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings, for example of configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: local or gs://.")


def main() -> None:
    """Trains from the command line's settings, or goes on where the workdir stands."""
    cli.require("config", "workdir")
    processes.join()
    import jax

    from vitok_jax import config as config_lib
    from vitok_jax.evaluation import evaluator
    from vitok_jax.sharding import mesh as mesh_lib
    from vitok_jax.tasks import adversarial
    from vitok_jax.telemetry import log
    from vitok_jax.training import latent_stats, loop

    config = config_lib.from_config_dict(config_lib.TokenizerConfig, _CONFIG.value)
    log.show(logging.INFO if jax.process_index() == 0 else logging.WARNING)
    task = adversarial.for_stage(config)
    evaluators = evaluator.for_training(config) if config.training.eval_every else []

    def measure(state: Any) -> dict[str, Any]:
        if not config.training.latent_stats_num:
            return {}
        params = {**state.params, **state.ema_params}
        mesh = mesh_lib.make_mesh(config.mesh)
        stats = latent_stats.measure(config, params, mesh, config.training.latent_stats_num)
        return {latent_stats.KEY: dataclasses.asdict(stats)}

    loop.train(task, config, _WORKDIR.value, evaluators=evaluators, at_end=measure)


if __name__ == "__main__":
    cli.run(main)
