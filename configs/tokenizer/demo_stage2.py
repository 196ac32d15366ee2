"""The demo's decoder against a small discriminator, on two CPU cores.

Command:
  python -m vitok_jax.train_tokenizer --workdir=runs/demo_stage2 \
      --config=configs/tokenizer/demo_stage2.py --config.init_from=runs/demo

Cost: not measured on the embedded photos. With 400 photos, 64-pixel crops and 600 steps of 8
(docs/adversarial.md) it was five minutes on two busy cores. Expected there, against as many more
steps of stage 1: FD on EfficientNet-Lite0 117.7 for 127.3, KID .047 for .063, PSNR 27.5 dB for
28.0.
"""

import pathlib
import runpy

import ml_collections

from vitok_jax import config_argument

_STAGE1 = pathlib.Path(__file__).with_name("demo.py")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; it takes no argument."""
    config_argument.parse(argument, {})
    config = runpy.run_path(str(_STAGE1))["get_config"]()
    config.stage = 2

    # Patches: a network for pictures of every side of the demo. Its gradient is made 0.8 times as
    # long as that of the reconstruction, whatever the units of either.
    config.adversarial.discriminator.kind = "patch"
    config.adversarial.discriminator.patch_layers = 2
    config.adversarial.discriminator.patch_channels = 32
    config.adversarial.weighting = "adaptive"
    config.adversarial.weight = 0.8
    config.adversarial.start_step = 100
    config.adversarial.ramp_steps = 200
    config.adversarial.steps_batch = 0
    config.adversarial.r1 = 1.0
    config.adversarial.optimizer.learning_rate = 5e-4
    config.adversarial.optimizer.final_learning_rate = 5e-4
    config.adversarial.optimizer.learning_rate_batch = 0
    config.adversarial.optimizer.warmup_steps = 100

    config.optimizer.learning_rate = 1e-3
    config.training.steps = 500
    config.training.eval_every = 500
    return config
