"""The Python interface: load a trained tokenizer, encode pictures, decode latents."""

import dataclasses
import functools
import hashlib
import os
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Shaped

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import codec as codec_lib
from vitok_jax.evaluation import convolutional, entrants, reconstruction
from vitok_jax.evaluation import devices as devices_lib
from vitok_jax.evaluation import long_video as long_video_lib
from vitok_jax.interop import opening
from vitok_jax.interop import source as source_lib
from vitok_jax.models import tubelets
from vitok_jax.training import checkpoint, latent_stats

# Slack for floats that went through bfloat16 or a resampling on their way.
_LARGEST_FLOAT = 1.1


@flax.struct.dataclass
class EncodedImages(tubelets.Latents):
    """Latents of pictures, which also remember what the pictures were.

    Attributes:
      tokens: `[B, N, C]` float32, row by row.
      positions: `[B, N, 3]` int32, (t, y, x) of each token.
      segments: None; one picture per row.
      kind: what `Tokenizer.decode` gives back, `uint8` or `float32`.
      frames: `none` for pictures `[B, H, W, 3]`, `axis` for clips `[B, T, H, W, 3]`.
      start: what the first tubelets in time hold: `tubelet`, or a single `frame`.
    """

    kind: str = flax.struct.field(pytree_node=False, default="uint8")
    frames: str = flax.struct.field(pytree_node=False, default="none")
    start: Literal["tubelet", "frame"] = flax.struct.field(pytree_node=False, default="tubelet")


class Tokenizer:
    """An image or video tokenizer with its weights; see `load`.

    Attributes:
      config: settings of the run that made it; what its format does not tell is at its default.
      params: weights, `{"encoder": ..., "decoder": ...}` or one of them, on the devices.
      latent_stats: per-channel mean and standard deviation of latents over training pictures, or
        None where they were not measured.
      step: training step, None where the format does not tell.
      weights: `raw`, `ema`, or `released` where the format does not tell.
      path: where it was loaded from.
      part: `all`, `encoder` or `decoder`.
    """

    def __init__(
        self,
        source: source_lib.Source,
        *,
        part: codec_lib.Part,
        devices: Sequence[jax.Device] | None,
        settings: config_lib.EvaluationConfig,
    ) -> None:
        self.config = source.config
        self.latent_stats = source.latent_stats
        self.step = source.step
        self.weights = source.weights
        self.path = source.path
        self.part = part
        self.codec = (
            codec_lib.Codec(source.config.model, part=part)
            if source.baseline is None
            else convolutional.ConvolutionalCodec(source.baseline, part=part)
        )
        self.settings = settings
        self._rows = devices_lib.local(devices)
        self.params = _moved(source.params, self._rows.copy)
        sides = codec_lib.trained_sides(source.config.data)
        self._bound = codec_lib.Bound(self.codec, self.params, sides, source.config.data.frames)

    def encode(self, images: Shaped[np.ndarray | Array, "b *t h w 3"]) -> EncodedImages:
        """Latents of pictures: the mode of their posterior.

        Compiled once for every shape; many pictures go through in several calls of one shape.

        Args:
          images: `[B, H, W, 3]`, or clips `[B, T, H, W, 3]`; uint8, or floats in [-1, 1]. The sides
            are multiples of the patch. Quality holds at sizes near those of training (`sides`);
            `reconstruct` takes any size.

        Returns:
          Latents whose `tokens` are `[B, N, C]` float32.

        Raises:
          UsageError: wrong shape, type or range of values, or a side that the patch does not
            divide, or only the decoder was loaded.
        """
        self._need("encoder")
        pixels_BTHWC, kind, frames = _checked(images)
        grid = tubelets.grid_of(
            pixels_BTHWC.shape[1:4], self.codec.variant.tubelet, self.codec.time_attention
        )
        tokens_BNC = self._rows.map(
            lambda pixels: self._bound.encode(pixels, None),
            pixels_BTHWC,
            at_most=self._at_most(pixels_BTHWC.shape[1:4]),
        )
        positions_N3 = tubelets.positions_of(grid)
        return EncodedImages(
            tokens=jnp.asarray(tokens_BNC),
            positions=jnp.broadcast_to(positions_N3, (len(tokens_BNC), *positions_N3.shape)),
            kind=kind,
            frames=frames,
            start=grid.start,
        )

    def decode(self, latents: tubelets.Latents) -> Shaped[np.ndarray, "b *t h w 3"]:
        """Pictures of latents.

        Args:
          latents: from `encode`, or any `Latents` whose rows are one full grid each, in raster
            order. The latter decode to uint8.

        Returns:
          Pictures of the shape and kind that were encoded: uint8, or float32 in [-1, 1].

        Raises:
          UsageError: the latents are packed or no full grid, have another number of channels, or
            only the encoder was loaded.
        """
        self._need("decoder")
        variant = self.codec.variant
        tokens_BNC = np.asarray(latents.tokens, np.float32)
        if tokens_BNC.ndim != 3 or tokens_BNC.shape[-1] != variant.channels:
            raise errors.UsageError(
                f"latents of shape {tokens_BNC.shape}; allowed: [B, N, {variant.channels}]"
            )
        grid = _grid(latents)
        kind: codec_lib.Kind = "uint8"
        if isinstance(latents, EncodedImages):
            grid = dataclasses.replace(grid, start=latents.start)
            kind = "float32" if latents.kind == "float32" else "uint8"
        q, p = variant.tubelet.frames, variant.tubelet.patch
        pixels_BTHWC = self._rows.map(
            lambda tokens: self._bound.decode(tokens, grid, kind),
            tokens_BNC,
            at_most=self._at_most((grid.t * q, grid.h * p, grid.w * p)),
        )
        if isinstance(latents, EncodedImages):
            return pixels_BTHWC if latents.frames == "axis" else pixels_BTHWC[:, 0]
        return pixels_BTHWC if pixels_BTHWC.shape[1] > 1 else pixels_BTHWC[:, 0]

    def reconstruct(
        self, images: Shaped[np.ndarray | Array, "b *t h w 3"]
    ) -> Shaped[np.ndarray, "b *t h w 3"]:
        """Pictures of any size, encoded and decoded.

        Sides that the patch does not divide are padded by reflection and cropped back; pictures
        larger than those of training go through in overlapping tiles. `route` tells which.

        Args:
          images: as for `encode`, of any size.

        Returns:
          Reconstructions of the same shape and kind.

        Raises:
          UsageError: wrong shape, type or range of values, or only one half was loaded.
        """
        pixels_BTHWC, _, frames = _checked(images)
        done = self.reconstructor.reconstruct(pixels_BTHWC, draws_B3=None)
        return done if frames == "axis" else done[:, 0]

    def route(self, height: int, width: int) -> str:
        """How `reconstruct` treats pictures of a size, in words."""
        return self.reconstructor.route((1, height, width)).describe()

    @functools.cached_property
    def reconstructor(self) -> reconstruction.Reconstructor:
        """The path of pictures of any size; `evaluate` takes it too."""
        self._need("encoder")
        self._need("decoder")
        return reconstruction.Reconstructor(self._bound, self._rows, settings=self.settings)

    @functools.cached_property
    def long_video(self) -> long_video_lib.LongVideo:
        """The path of videos of any length, frame by frame."""
        return long_video_lib.LongVideo(self._bound, self.reconstructor, self.settings)

    @property
    def entry(self) -> entrants.Entry:
        """What `evaluation.comparison.compare` needs to know."""
        sides = ", ".join(map(str, self.sides))
        return entrants.Entry(
            name=os.path.basename(os.path.normpath(self.path)) or self.path,
            path=self.reconstructor,
            config=self.config,
            budget=self.codec.budget,
            origin={
                "variant": self.codec.variant.name,
                "path": self.path,
                "step": self.step,
                "weights": self.weights,
                "weights_sha256": self.weights_sha256,
                "precision": self.codec.dtype,
                "trained_sides": sides,
                "trained_on": self.config.data.train or "not known",
            },
        )

    def write_latent_stats(self) -> None:
        """Measures latents on training pictures and notes them in the checkpoint.

        Raises:
          UsageError: the training pictures cannot be read, the checkpoint cannot be written, or
            the tokenizer does not come from a workdir.
        """
        self._need("encoder")
        if self.step is None or not checkpoint.steps(self.path):
            raise errors.UsageError(
                f"{self.path}: latent statistics are noted in checkpoints; allowed: a workdir"
            )
        mesh = config_lib.MeshConfig()
        stats = latent_stats.measure(
            dataclasses.replace(self.config, mesh=mesh),
            self.params,
            self._rows.mesh,
            self.settings.latent_stats_num,
        )
        self.latent_stats = dataclasses.asdict(stats)
        if jax.process_index() == 0:
            latent_stats.write(self.path, self.step, stats)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides in pixels that the model was trained at, ascending."""
        return self._bound.sides

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Hash of all weights with their names, types and shapes."""
        return sha256_of(self.params)

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        sides = f"{self.sides[0]}" + (f" to {self.sides[-1]}" if len(self.sides) > 1 else "")
        at = "" if self.step is None else f", step {self.step}"
        return (
            f"Tokenizer({self.codec.variant.name}, {self.part}: {count:,} parameters, "
            f"{self.codec.budget.channels} floats per token, trained at {sides} px{at}, "
            f"from {self.path})"
        )

    def _need(self, half: str) -> None:
        if self.part not in ("all", half):
            raise errors.UsageError(
                f"this needs the {half}, but {self.path} was loaded with part={self.part!r}; "
                f"allowed: part='all' or part={half!r}"
            )

    def _at_most(self, shape_THW: tuple[int, ...]) -> int:
        per_device = self.settings.pixels_per_device // int(np.prod(shape_THW))
        return max(1, per_device) * self._rows.shards


def load(
    path: epath.PathLike,
    *,
    step: int | None = None,
    part: codec_lib.Part = "all",
    weights: str = "auto",
    devices: Sequence[jax.Device] | None = None,
    settings: config_lib.EvaluationConfig | None = None,
) -> Tokenizer:
    """Loads a tokenizer.

    Example:
      >>> import vitok_jax
      >>> tokenizer = vitok_jax.load(workdir)
      >>> latents = tokenizer.encode(images)
      >>> latents.tokens.shape
      (2, 16, 16)
      >>> tokenizer.decode(latents).shape == images.shape
      True

    Args:
      path: workdir of a training run, a folder that `vitok_jax.export` made, or one of released
        ViTok-v2 weights or of an `AutoencoderKL`, local or in a bucket; or `org/name` of a model
        hub (`docs/interop.md`).
      step: which checkpoint of a workdir; None takes the newest.
      part: `encoder` or `decoder` reads and builds that half alone.
      weights: of a workdir: `raw` as trained, `ema` averaged, `auto` averaged where the run kept an
        average.
      devices: that compute, each a share of every batch; None takes all of this process.
      settings: of tiling and batching; None takes the defaults.

    Returns:
      The tokenizer.

    Raises:
      UsageError: the folder holds no tokenizer, or it is damaged, or of another kind.
    """
    for name, value, kind in (
        ("part", part, codec_lib.Part),
        ("weights", weights, checkpoint.Weights),
    ):
        if value not in typing.get_args(kind):
            raise errors.unknown(name, value, typing.get_args(kind))
    chosen = typing.cast(checkpoint.Weights, weights)
    return Tokenizer(
        opening.read(path, step=step, part=part, weights=chosen),
        part=part,
        devices=devices,
        settings=settings or config_lib.EvaluationConfig(),
    )


def sha256_of(params: dict[str, Any]) -> str:
    """Hash of weights with their names, types and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _moved(tree: dict[str, Any], copy: Callable[[Any], Any]) -> dict[str, Any]:
    """The tree on the devices; each array on the host is let go as soon as it was copied."""
    moved = {}
    for name in list(tree):
        value = tree.pop(name)
        moved[name] = _moved(value, copy) if isinstance(value, dict) else copy(value)
    return moved


def _checked(
    images: Shaped[np.ndarray | Array, "..."],
) -> tuple[Shaped[np.ndarray, "b t h w 3"], codec_lib.Kind, str]:
    """Pixels as clips, their kind, and whether they came with an axis of frames."""
    array = np.asarray(images)
    if array.ndim not in (4, 5) or array.shape[-1] != 3 or 0 in array.shape:
        raise errors.UsageError(
            f"images of shape {array.shape}; allowed: [B, H, W, 3] or [B, T, H, W, 3]"
        )
    kind: codec_lib.Kind = "uint8"
    if array.dtype != np.uint8:
        kind = "float32"
        if array.dtype.kind not in "fV":  # V: bfloat16, which NumPy does not know as a float
            raise errors.UsageError(f"images of type {array.dtype}; allowed: uint8 or floats")
        array = array.astype(np.float32)
        largest = float(np.abs(array).max())
        if not largest <= _LARGEST_FLOAT:
            raise errors.UsageError(
                f"float images with values up to {largest:g} in size; allowed: [-1, 1]"
            )
    return (array[:, None], kind, "none") if array.ndim == 4 else (array, kind, "axis")


def _grid(latents: tubelets.Latents) -> tubelets.Grid:
    positions_BN3 = np.asarray(latents.positions)
    t, h, w = (int(n) + 1 for n in positions_BN3.reshape(-1, 3).max(0))
    grid = tubelets.Grid(t, h, w)
    same = positions_BN3.shape[1] == grid.tokens and np.array_equal(
        positions_BN3, np.broadcast_to(tubelets.positions_of(grid), positions_BN3.shape)
    )
    if latents.segments is not None or not same:
        raise errors.UsageError(
            "these latents are packed or not in raster order; allowed: one full grid per row "
            "(decode others with vitok_jax.models)"
        )
    return grid
