"""Stage 2 of the paper on ImageNet (arXiv 2501.09755, sections 2.3 and 3, appendix A.2).

Command:
  python -m vitok_jax.train_tokenizer --workdir=DIR \
      --config=configs/tokenizer/imagenet_stage2.py:variant=S-B/16,size=256 \
      --config.init_from=STAGE1_DIR

Arguments: those of `imagenet.py`; variant and size are those of the run in STAGE1_DIR.

The encoder stays frozen (`--config.adversarial.train=all` trains it too). 100,000 steps of 256
pictures; hinge loss with weight 0.05, which grows in from step 5,000 to 55,000; the discriminator
learns from step 0 on, at 2e-5 after 25,000 steps of warm-up. R1 is off, as in the authors' code;
where the discriminator runs away, `--config.adversarial.r1=1` to 10 is what others take.

Cost: the paper quotes 3 to 6 hours on 8 H100 for S-B/16 in PyTorch (appendix). Not measured here.

Expected, quoted from the paper for S-B/16 at 256 px: rFID from about 1.6 to 0.5, PSNR and SSIM a
little lower (its Inception is torchvision's, so its rFID compares with itself only).
"""

import pathlib
import runpy

import ml_collections

_STAGE1 = pathlib.Path(__file__).with_name("imagenet.py")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Settings of the run; see the head of this file for the argument."""
    config = runpy.run_path(str(_STAGE1))["get_config"](argument)
    config.stage = 2
    config.data.batch_size = 256
    config.optimizer.ema = 0.9999

    config.adversarial.objective = "hinge"
    config.adversarial.weight = 0.05
    config.adversarial.start_step = 5_000
    config.adversarial.ramp_steps = 50_000
    config.adversarial.discriminator.kind = "residual"
    config.adversarial.optimizer.learning_rate = 2e-5
    config.adversarial.optimizer.warmup_steps = 25_000
    return config
