"""Stage 1 of the paper on ImageNet (arXiv 2501.09755, sections 2.3 and 3).

Command:
  python -m vitok_jax.train_tokenizer --workdir=DIR \
      --config=configs/tokenizer/imagenet.py:variant=S-B/16,size=256

Arguments:
  variant: `S-B/16` and every other combination of S, B and L; the sweep over E = tokens x channels
    takes p in 8, 16, 32 and c in 4, 8, 16, 32, 64 as `S-B/1xPxC`, for example `S-B/1x8x64`.
  size: side of the pictures, 256 or 512.
  train, eval: sources; the paper adds 450 M Shutterstock pictures that are not public.

Cost: the paper quotes 6 to 12 hours on 8 H100 for S-B/16 in PyTorch (appendix). Not measured here.

Expected, quoted from the paper for S-B/16 at 256 px on the ImageNet validation set, trained on its
450 M pictures as well: rFID 1.6 (1.58 to 2.15 between its tables), SSIM .79, PSNR 26.1 dB (Table 2
and Figure 2; its Inception is torchvision's, so its rFID compares with itself only). ImageNet
alone was not tried there.
"""

import ml_collections

from vitok_jax import config as config_lib
from vitok_jax import config_argument


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; see the head of this file for the argument."""
    chosen = config_argument.parse(
        argument,
        {
            "variant": "S-B/16",
            "size": 256,
            "train": "tfds:imagenet2012:train",
            "eval": "tfds:imagenet2012:validation",
        },
    )
    config = config_lib.to_config_dict(config_lib.TokenizerConfig())

    config.model.variant = chosen["variant"]
    # Whole blocks are computed again in the backward pass, so that 64 pictures fit on a 16 GB chip.
    config.model.remat = "full"

    config.data.train = chosen["train"]
    config.data.eval = chosen["eval"]
    config.data.size = chosen["size"]
    config.data.batch_size = 1024
    config.data.eval_batch_size = 256
    config.data.eval_num = 5_000

    config.loss.pixel = "mse"
    config.loss.lpips = 1.0
    config.loss.kl = 1e-3

    # 1e-4 x batch / 256 = 4e-4 at the peak.
    config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate_batch = 256
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 1e-4
    config.optimizer.warmup_steps = 3_000  # 3 %

    config.training.steps = 100_000
    config.training.log_every = 100
    config.training.eval_every = 10_000
    config.training.latent_stats_num = 10_000
    config.checkpoint.every = 2_000
    return config
