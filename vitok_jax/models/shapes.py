"""Sizes that follow from a config by arithmetic alone; imports no JAX."""

import dataclasses
from typing import Literal

import numpy as np

from vitok_jax import errors
from vitok_jax.config import ModelConfig
from vitok_jax.models import variants


@dataclasses.dataclass(frozen=True)
class Grid:
    """Tubelets along time, height and width.

    Attributes:
      t: along time.
      h: along the height.
      w: along the width.
      start: what the first tubelets in time hold: q frames as all others, or a single `frame`,
        repeated q times on the way in, the q frames averaged on the way out.
    """

    t: int
    h: int
    w: int
    start: Literal["tubelet", "frame"] = "tubelet"

    @property
    def tokens(self) -> int:
        """Number of tubelets."""
        return self.t * self.h * self.w

    def frames(self, tubelet: variants.Tubelet) -> int:
        """Frames of the video."""
        whole = self.t * tubelet.frames
        return whole if self.start == "tubelet" else whole - tubelet.frames + 1


def grid_of(
    shape_thw: tuple[int, int, int],
    tubelet: variants.Tubelet,
    time_attention: Literal["full", "causal"] = "full",
) -> Grid:
    """The grid of a video.

    The number of frames is a multiple of q; or 1, an image; or, with causal attention, 1 + k q
    with the first frame alone.

    Args:
      shape_thw: frames, height and width; an image has one frame.
      tubelet: what one token covers.
      time_attention: of the model.

    Returns:
      Its grid.

    Raises:
      UsageError: the tubelet does not divide the video.
    """
    t, h, w = shape_thw
    if min(shape_thw) < 1:
        raise errors.UsageError(
            f"{t} frames of {h}x{w} pixels are no video; allowed: 1 and more of each"
        )
    alone = t % tubelet.frames == 1 % tubelet.frames and (t == 1 or time_attention == "causal")
    if t % tubelet.frames and not alone:
        also = f" 1 + multiples of {tubelet.frames}" if time_attention == "causal" else " 1"
        raise errors.UsageError(
            f"{t} frames do not divide into tubelets of {tubelet.frames}; "
            f"allowed: multiples of {tubelet.frames}, or{also}"
        )
    if h % tubelet.patch or w % tubelet.patch:
        raise errors.UsageError(
            f"{h}x{w} pixels do not divide into patches of {tubelet.patch}; "
            f"allowed: multiples of {tubelet.patch}"
        )
    start: Literal["tubelet", "frame"] = "frame" if t % tubelet.frames else "tubelet"
    return Grid(-(-t // tubelet.frames), h // tubelet.patch, w // tubelet.patch, start)


def positions_of(grid: Grid) -> np.ndarray:
    """The (t, y, x) of each token of a grid in raster order, int32 [N, 3]."""
    axes = np.meshgrid(np.arange(grid.t), np.arange(grid.h), np.arange(grid.w), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3).astype(np.int32)


def hidden_width(config: ModelConfig, width: int) -> int:
    """Hidden units of the MLP: ((int(2.67 W) + 8) // 16) * 16 when gated, else 4 W."""
    if config.mlp == "gelu":
        return 4 * width
    return (int(2.67 * width) + 8) // 16 * 16


def code_width(config: ModelConfig, channels: int) -> int:
    """Numbers per token that the encoder puts out: a mean each, and with `kl` a log-variance."""
    return 2 * channels if config.bottleneck == "kl" else channels


def rotary_split(config: ModelConfig, head_dim: int) -> tuple[int, ...]:
    """Sizes of the parts of a head that rotate with each axis.

    Args:
      config: `positions` and `rope_split` are read.
      head_dim: D.

    Returns:
      Even sizes over (t, y, x) for `3d`, over (y, x) for `2d`, and (D,) for `1d`. Without
      `rope_split`, `3d` takes y = x = 2 ceil(D / 6) and t = D - 2 y, which is 0 for D = 4 and 8:
      such a head sees no time.

    Raises:
      UsageError: the sizes are odd, negative, of the wrong number, or do not sum to D.
    """
    axes = {"3d": 3, "2d": 2, "1d": 1}[config.positions]
    split = config.rope_split
    if not split:
        spatial = 2 * -(-head_dim // 6)
        split = {
            "3d": (head_dim - 2 * spatial, spatial, spatial),
            "2d": (head_dim // 2, head_dim // 2),
            "1d": (head_dim,),
        }[config.positions]
    fits = len(split) == axes and sum(split) == head_dim
    if not fits or any(part % 2 or part < 0 for part in split):
        given = "model.rope_split" if config.rope_split else "default rotary split"
        numbers = "one even number" if axes == 1 else f"{axes} even numbers"
        raise errors.UsageError(
            f"{given} {split} does not fit model.positions={config.positions} and heads of "
            f"{head_dim}; allowed: {numbers} that sum to {head_dim}"
        )
    return split


def check(config: ModelConfig) -> variants.Variant:
    """The variant of a config whose sizes fit each other.

    Raises:
      UsageError: the variant does not parse, its heads do not fit the rotary positions, or full
        attention has a window.
    """
    variant = variants.parse(config.variant)
    for size in (variant.encoder, variant.decoder):
        rotary_split(config, size.head_dim)
    if config.time_window and config.time_attention == "full":
        raise errors.UsageError(
            f"model.time_window: {config.time_window} needs model.time_attention=causal; "
            "allowed with full attention: 0"
        )
    return variant
