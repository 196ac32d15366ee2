"""Class-conditional UCF-101 videos, 16 x 128 x 128 (arXiv 2501.09755, section 4.2).

Command:
  python -m vitok_jax.train_dit --workdir=DIR --config.tokenizer=TOKENIZER_DIR \
      --config=configs/dit/ucf101.py:train=videofolder:UCF/train,eval=videofolder:UCF/test

Arguments:
  train, eval: sources of videos whose first folder is the class.
  frames: of a clip; the tokenizer's tubelet divides it.

Cost: not measured here.

Expected, quoted from the paper (Table 7) and not tried here: gFVD 27.44 with 1,024 tokens of
S-B/4x8, 52.71 with 512 of S-B/8x8, 92.46 with 256 of S-B/4x16.
"""

import ml_collections

from vitok_jax import config as config_lib
from vitok_jax import config_argument


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; see the head of this file for the argument."""
    chosen = config_argument.parse(
        argument,
        {"train": "videofolder:ucf101/train", "eval": "videofolder:ucf101/test", "frames": 16},
    )
    config = config_lib.to_config_dict(config_lib.DitRunConfig())

    config.model.size = "L"
    config.model.num_classes = 101
    config.model.remat = "dots"

    config.sampler.name = "ddim"
    config.sampler.steps = 250
    config.sampler.scale = 1.5

    config.data.train = chosen["train"]
    config.data.eval = chosen["eval"]
    config.data.frames = chosen["frames"]
    config.data.size = 128
    config.data.batch_size = 256
    config.data.eval_num = 512

    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_batch = 256
    config.optimizer.final_learning_rate = 3e-5
    config.optimizer.warmup_steps = 50_000
    config.optimizer.ema = 0.9999

    config.training.steps = 500_000
    config.training.eval_every = 25_000
    config.generation.num = 512
    config.generation.metrics = ("fvd",)
    config.checkpoint.every = 5_000
    return config
