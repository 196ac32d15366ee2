"""Settings of the pictures and clips that go in."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Pictures that go in.

    Attributes:
      train: sources of training pictures, for example `folder:/a@0.7,tfds:imagenet2012:train@0.3`.
      eval: source of held-out pictures.
      size: side of a training crop and of an evaluation crop, pixels.
      sizes: when given, each step takes one of these sides, chosen from (seed, step), and its batch
        is scaled to keep pixels per step constant.
      batch_size: pictures per step over all devices, at side `size`.
      eval_batch_size: pictures per evaluation step over all devices.
      eval_crop: `center` resizes the short side to `size` and crops its centre; `none` takes whole
        pictures.
      eval_num: number of evaluation pictures, 0 for all.
      crop: of training: `resized` takes a share of the picture's area and resizes it
        (RandomResizedCrop), `native` takes about `size` pixels, so that detail keeps its scale.
      crop_scale: smallest and largest share of the picture's area in a `resized` crop.
      crop_ratio: smallest and largest aspect ratio (width / height) of a `resized` crop.
      crop_zoom: smallest and largest side of a `native` crop in the picture over `size`.
      flip: probability of a horizontal flip.
      workers: decoding processes per host; 0 decodes in the trainer.
      prefetch: batches that wait, decoded, per worker.
      decoded_cache: megabytes of decoded pictures that each worker keeps; helps small sets.
      corrupt_share: largest share of unreadable pictures before the run stops.
    """

    train: str = "photos:train"
    eval: str = "photos:heldout"
    size: Positive = 256
    sizes: tuple[int, ...] = ()
    batch_size: Positive = 1024
    eval_batch_size: Positive = 64
    eval_crop: Literal["center", "none"] = "center"
    eval_num: int = 0
    crop: Literal["resized", "native"] = "resized"
    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    crop_zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    workers: int = 8
    prefetch: Positive = 2
    decoded_cache: int = 64
    corrupt_share: float = 0.01
