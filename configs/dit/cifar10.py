"""A small diffusion transformer of CIFAR-10, on two CPU cores: figures that fall, no good pictures.

Command:
  python -m vitok_jax.train_dit --workdir=runs/cifar10/dit \
      --config=configs/dit/cifar10.py:train=folder:cifar10/train,eval=folder:cifar10/test \
      --config.tokenizer=runs/cifar10/tokenizer

Arguments:
  train, eval: sources; `train=latents:DIR/*.array_record` reads encoded pictures.

Cost: 14.5 minutes on two CPU cores under a load of thirteen, three evaluations included.
Expected: fd_efflite0 of 250 samples against 250 test pictures 193.4, 150.3, 145.7 and kid_efflite0
0.215, 0.125, 0.117 after 350, 700 and 1,050 steps (guidance 1.5). Colours and layouts, no objects:
a proper run takes a hundred times as many steps.
"""

import ml_collections

from vitok_jax import config as config_lib
from vitok_jax import config_argument


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; see the head of this file for the argument."""
    chosen = config_argument.parse(
        argument, {"train": "folder:cifar10/train", "eval": "folder:cifar10/test"}
    )
    config = config_lib.to_config_dict(config_lib.DitRunConfig())

    config.model.size = "w96d4h3"
    config.model.num_classes = 10

    config.diffusion.process = "flow"
    config.sampler.name = "heun"
    config.sampler.steps = 10
    config.sampler.scale = 1.5

    config.data.train = chosen["train"]
    config.data.eval = chosen["eval"]
    config.data.size = 32
    config.data.batch_size = 64
    config.data.eval_num = 500
    config.data.eval_batch_size = 100
    config.data.workers = 1

    config.optimizer.learning_rate = 1e-3
    config.optimizer.learning_rate_batch = 0
    config.optimizer.warmup_steps = 100
    config.optimizer.ema = 0.995

    config.training.steps = 1_050
    config.training.log_every = 100
    config.training.eval_every = 350
    config.generation.num = 250
    config.generation.metrics = ("fd_efflite0", "kid_efflite0")
    config.generation.batch_size = 125
    config.checkpoint.every = 350
    config.checkpoint.keep = 5
    return config
