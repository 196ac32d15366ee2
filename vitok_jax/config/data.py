"""Settings of the pictures and clips that go in."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Pictures and clips that go in.

    Attributes:
      train: sources of training pictures or videos, for example
        `folder:/a@0.7,tfds:imagenet2012:train@0.3`. In a mixture of pictures and videos each step
        is all pictures or all clips.
      eval: source of held-out pictures or videos.
      frames: of a clip; 1 takes single frames of videos.
      stride: frames of the video from one frame of a clip to the next, where `fps` is 0.
      fps: frames per second of a clip, whatever the video has; 0 goes by `stride`.
      clip_offset: where a training clip starts: anywhere, or where its video does.
      eval_clips: clips of each video in an evaluation: the first frames, or so many clips spread
        evenly from the first to the last frames.
      size: side of a training crop and of an evaluation crop, pixels.
      sizes: when given, each step takes one of these sides, chosen from (seed, step), and its batch
        is scaled to keep pixels per step constant.
      batch_size: pictures or clips per step over all devices, at side `size`.
      image_batch_size: pictures of an all-picture step of a mixture; 0 takes `batch_size`.
      eval_batch_size: pictures per evaluation step over all devices.
      eval_crop: `center` resizes the short side to `size` and crops its centre; `none` takes whole
        pictures.
      eval_num: number of evaluation pictures, 0 for all.
      crop: of training: `resized` takes a share of the picture's area and resizes it
        (RandomResizedCrop), `native` takes about `size` pixels, so that detail keeps its scale,
        `center` resizes the short side to `size` and takes the centre, as evaluation does.
      crop_scale: smallest and largest share of the picture's area in a `resized` crop.
      crop_ratio: smallest and largest aspect ratio (width / height) of a `resized` crop.
      crop_zoom: smallest and largest side of a `native` crop in the picture over `size`.
      flip: probability of a horizontal flip.
      workers: decoding processes per host; 0 decodes in the trainer.
      prefetch: batches that wait, decoded, per worker.
      decoded_cache: megabytes of decoded pictures that each worker keeps; helps small sets.
      decoded_videos: megabytes of wholly decoded videos that each worker keeps; helps sets of a few
        short ones, of which clips are cut again and again.
      corrupt_share: largest share of unreadable pictures before the run stops.
    """

    train: str = "photos:train"
    eval: str = "photos:heldout"
    frames: Positive = 1
    stride: Positive = 1
    fps: float = 0.0
    clip_offset: Literal["random", "start"] = "random"
    eval_clips: Positive = 1
    size: Positive = 256
    sizes: tuple[int, ...] = ()
    batch_size: Positive = 1024
    image_batch_size: int = 0
    eval_batch_size: Positive = 64
    eval_crop: Literal["center", "none"] = "center"
    eval_num: int = 0
    crop: Literal["resized", "native", "center"] = "resized"
    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    crop_zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    workers: int = 8
    prefetch: Positive = 2
    decoded_cache: int = 64
    decoded_videos: int = 0
    corrupt_share: float = 0.01
