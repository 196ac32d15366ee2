"""A small tokenizer on the embedded photos, on two CPU cores.

Command:
  python -m vitok_jax.train_tokenizer --workdir=runs/demo --config=configs/tokenizer/demo.py

`make demo` runs this, then evaluates whole held-out photos.

Cost: 7 minutes on two busy CPU cores, compilation included. Expected: 28.4 dB on the four held-out
photos, where per-patch PCA with as many latent floats has 28.0 and bicubic sampling 26.6.
"""

import ml_collections

from vitok_jax import config as config_lib
from vitok_jax import config_argument


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; it takes no argument."""
    config_argument.parse(argument, {})
    config = config_lib.to_config_dict(config_lib.TokenizerConfig())

    config.model.variant = "w128d1h4-w128d3h4/1x8x16"
    # Without final norms a straight path leads from pixels to code to pixels, and a small layer
    # scale leaves it alone at first: it learns several times faster (docs/training.md).
    config.model.final_norm = "off"
    config.model.layer_scale = 0.01

    config.data.train = "photos:train"
    config.data.eval = "photos:heldout"
    # Rotary positions do not extrapolate: whole photos go through in tiles of the largest side.
    config.data.size = 64
    config.data.sizes = (64, 64, 128, 128, 256)
    config.data.batch_size = 16
    config.data.crop = "native"
    config.data.eval_batch_size = 4
    config.data.eval_crop = "none"
    config.data.workers = 1

    # LPIPS is dear on a CPU: it sees a crop of one picture a step.
    config.loss.lpips = 0.001
    config.loss.lpips_pictures = 1
    config.loss.lpips_crop = 32
    config.loss.kl = 1e-4

    config.optimizer.learning_rate = 5e-3
    config.optimizer.learning_rate_batch = 0
    config.optimizer.warmup_steps = 100
    config.optimizer.ema = 0.998

    config.training.steps = 1_500
    config.training.log_every = 50
    config.training.eval_every = 1_500
    config.training.latent_stats_num = 64
    config.checkpoint.every = 500
    return config
