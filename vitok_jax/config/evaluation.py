"""Settings of judging."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How tokenizers are judged (`evaluate`), and how pictures of any size pass (`reconstruct`).

    Attributes:
      metrics: names, see `docs/metrics.md`.
      yardsticks: codecs of equal cost in the same table: `bicubic`, `pca`, `jpeg`.
      size: side of an evaluation crop; 0 takes `data.size` of the checkpoint.
      crop: `center` resizes the short side to `size` and crops its centre; `none` takes whole
        pictures.
      frames: of a clip, where videos are judged; 0 takes `data.frames` of the checkpoint.
      clips: of each video: its first frames, or so many clips spread evenly from the first to the
        last frames; 0 takes `data.eval_clips` of the checkpoint.
      batch_size: pictures or clips per step over all devices of a process.
      num: number of pictures; 0 for all.
      posterior: `mode`, or a `sample` that depends on (seed, picture) alone.
      seed: of posterior samples.
      fit_num: pictures that the PCA yardstick is fitted on, from the start of its source.
      jpeg_bytes_per_float: what a latent float may cost the JPEG yardstick; 2 is bfloat16.
      tile_overlap: smallest share of a tile, in space or time, that its neighbour covers as well.
      pixels_per_device: of one call of a model; larger inputs go through in several calls.
      latent_stats_num: training pictures for `--write_latent_stats`.
      grid: pictures in `reconstructions.png`.
      report_pictures: pictures to look at in the report page, the worst first.
      report_side: longest side of a picture in the page; a larger one shows its central part.
      report_megabytes: bound on the pictures in the page; fewer are embedded when they exceed it.
      snapshot_seconds: between snapshots from which a killed evaluation goes on.
    """

    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips_vgg")
    yardsticks: tuple[str, ...] = ("bicubic", "pca", "jpeg")
    size: int = 0
    crop: Literal["center", "none"] = "center"
    frames: int = 0
    clips: int = 0
    batch_size: Positive = 64
    num: int = 0
    posterior: Literal["mode", "sample"] = "mode"
    seed: int = 0
    fit_num: Positive = 1_000
    jpeg_bytes_per_float: Positive = 2
    tile_overlap: float = 0.25
    pixels_per_device: Positive = 2**22
    latent_stats_num: Positive = 1_024
    grid: Positive = 8
    report_pictures: Positive = 48
    report_side: Positive = 640
    report_megabytes: float = 24.0
    snapshot_seconds: float = 20.0
