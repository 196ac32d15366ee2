"""Class-conditional ImageNet in the latents of S-B/16 (arXiv 2501.09755, sections 4.1 and 3.1).

Command:
  python -m vitok_jax.train_dit --workdir=DIR --config.tokenizer=TOKENIZER_DIR \
      --config=configs/dit/imagenet.py:size=L,pixels=256

Arguments:
  size: L (the paper's sweeps, 500,000 steps) or XL (its final runs, 4,000,000 steps); S and B of
    the same layout take L's schedule.
  pixels: 256 or 512: 256 or 1,024 tokens of a tokenizer of 16 x 16 pixels.
  train, eval: sources; `train=latents:DIR/*.array_record` reads what `prepare_data --tokenizer`
    wrote.

Cost: not measured here; `python -m vitok_jax.cost DiT-L@256` counts it.

Expected, quoted from the paper (Table 6; its Inception is torchvision's) and not tried here: gFID
2.45 and gIS 284.4 for XL at 256 px with guidance 1.5, 3.41 and 251.5 at 512 px.
"""

import ml_collections

from vitok_jax import config as config_lib
from vitok_jax import config_argument

_STEPS = {"S": 500_000, "B": 500_000, "L": 500_000, "XL": 4_000_000}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; see the head of this file for the argument."""
    chosen = config_argument.parse(
        argument,
        {
            "size": "L",
            "pixels": 256,
            "train": "tfds:imagenet2012:train",
            "eval": "tfds:imagenet2012:validation",
        },
    )
    config = config_lib.to_config_dict(config_lib.DitRunConfig())

    config.model.size = chosen["size"]
    config.model.num_classes = 1_000
    config.model.class_dropout = 0.1
    config.model.remat = "dots"

    config.diffusion.process = "ddpm"
    config.sampler.name = "ddim"
    config.sampler.steps = 250
    config.sampler.scale = 1.5

    config.data.train = chosen["train"]
    config.data.eval = chosen["eval"]
    config.data.size = chosen["pixels"]
    config.data.batch_size = 256
    config.data.eval_num = 5_000

    # 1e-4 at a batch of 256 (released code; the paper names no other), EMA as configured there.
    steps = _STEPS.get(chosen["size"], _STEPS["L"])
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_batch = 256
    config.optimizer.final_learning_rate = 3e-5
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 1e-4
    config.optimizer.warmup_steps = steps // 10
    config.optimizer.ema = 0.9999

    config.training.steps = steps
    config.training.eval_every = 25_000
    config.generation.num = 5_000
    config.generation.metrics = ("fd_efflite0", "is_efflite0")
    config.checkpoint.every = 5_000
    return config
