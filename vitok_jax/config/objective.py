"""Settings of the stage-1 objective and of AdamW."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the stage-1 objective (paper equation 1); 0 leaves a term out.

    Attributes:
      pixel: distance between pixels in [-1, 1], a mean over all of them.
      pixel_weight: its weight.
      huber_delta: where `huber` turns linear, in units of [-1, 1].
      charbonnier_epsilon: the constant of `charbonnier`, sqrt(x^2 + eps^2).
      lpips: weight of LPIPS on VGG16 (eta).
      lpips_crop: side of the random crop that LPIPS sees; 0 for whole pictures.
      lpips_pictures: pictures, or frames of clips, of a step that LPIPS sees; 0 for all.
      ssim: weight of 1 - SSIM.
      kl: weight of the KL term (beta), which is a mean over tokens and channels.
    """

    pixel: Literal["mse", "l1", "huber", "charbonnier"] = "mse"
    pixel_weight: float = 1.0
    huber_delta: float = 0.05
    charbonnier_epsilon: float = 1e-3
    lpips: float = 1.0
    lpips_crop: int = 0
    lpips_pictures: int = 0
    ssim: float = 0.0
    kl: float = 1e-3


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay (paper section 2.3 and appendix).

    Attributes:
      learning_rate: peak, for `learning_rate_batch` frames a step.
      learning_rate_batch: the peak is scaled by batch x frames over this number; 0 takes
        `learning_rate` as it stands.
      final_learning_rate: at the last step, scaled alike.
      warmup_steps: of linear growth from 0.
      b1: decay of the first moment.
      b2: decay of the second moment.
      epsilon: added to the root of the second moment.
      weight_decay: decoupled, on matrices only: no bias, norm or layer scale decays.
      clip_norm: largest global norm of a gradient; 0 does not clip.
      accumulate: gradients of this many parts of a batch are averaged before an update.
      ema: decay of the averaged weights; 0 keeps none.
    """

    learning_rate: float = 1e-4
    learning_rate_batch: int = 256
    final_learning_rate: float = 0.0
    warmup_steps: int = 3_000
    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    accumulate: Positive = 1
    ema: float = 0.0
