"""A tokenizer as two jitted functions of parameters and pixels."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from vitok_jax import config as config_lib
from vitok_jax.evaluation import yardsticks
from vitok_jax.models import bottleneck, layers, transformer, tubelets, variants, vitok

Kind = Literal["uint8", "float32"]
Part = Literal["all", "encoder", "decoder"]


class Codec:
    """Encoder and decoder of one model; compiled once for every shape that they meet.

    The functions keep to the mesh on which their arguments lie. Those that end in `_piece` take a
    video piece by piece through a model whose attention is causal; what they remember of earlier
    pieces is `past`, and what they give for all pieces is what the whole would give.

    Attributes:
      variant: the model's variant.
      part: which halves can run.
      time_attention: whether a frame sees those after it.
      dtype: of matrix products.
    """

    def __init__(self, config: config_lib.ModelConfig, *, part: Part) -> None:
        self.variant = variants.parse(config.variant)
        self.part = part
        self.time_attention = config.time_attention
        self.dtype = str(layers.compute_dtype(config))
        self._encoder = vitok.build_encoder(config) if part != "decoder" else None
        self._decoder = vitok.build_decoder(config) if part != "encoder" else None
        self.encode = jax.jit(self._encode)
        self.decode = jax.jit(self._decode, static_argnames=("grid", "kind"))
        self._config = config
        self.encode_piece = jax.jit(self._encode_piece)
        self.decode_piece = jax.jit(self._decode_piece, static_argnames=("grid",))

    @functools.cached_property
    def budget(self) -> yardsticks.Budget:
        """What the latents hold."""
        tubelet = self.variant.tubelet
        return yardsticks.Budget(tubelet.frames, tubelet.patch, self.variant.channels)

    def _encode(
        self,
        params: dict[str, Any],
        pixels_BTHWC: Shaped[Array, "b t h w 3"],
        draws_B3: Int[Array, "b 3"] | None = None,
    ) -> Float[Array, "b n c"]:
        """Latent tokens: the posterior's mode, or the samples that `draws_B3` number."""
        assert self._encoder is not None, f"a codec of part {self.part} has no encoder"
        patches = tubelets.patchify(
            to_unit(pixels_BTHWC), self.variant.tubelet, self.time_attention
        )
        posterior = self._encoder.apply({"params": params["encoder"]}, patches)
        assert isinstance(posterior, bottleneck.Posterior)
        return drawn(posterior, draws_B3)

    def _decode(
        self,
        params: dict[str, Any],
        tokens_BNC: Float[Array, "b n c"],
        *,
        grid: tubelets.Grid,
        kind: Kind,
    ) -> Shaped[Array, "b t h w 3"]:
        """Pixels of tokens in raster order."""
        assert self._decoder is not None, f"a codec of part {self.part} has no decoder"
        positions_N3 = jnp.asarray(tubelets.positions_of(grid))
        positions_BN3 = jnp.broadcast_to(positions_N3, (*tokens_BNC.shape[:2], 3))
        latents = tubelets.Latents(tokens=tokens_BNC, positions=positions_BN3)
        patches_BNP = self._decoder.apply({"params": params["decoder"]}, latents)
        assert isinstance(patches_BNP, jax.Array)
        video_BTHWC = tubelets.unpatchify(patches_BNP, grid, self.variant.tubelet)
        return from_unit(video_BTHWC, kind)

    def empty_past(self, half: Literal["encoder", "decoder"], rows: int) -> dict[str, Any]:
        """What is remembered before the first piece."""
        size = getattr(self.variant, half)
        return {"transformer": transformer.empty_past(self._config, size, rows)}

    def _encode_piece(
        self,
        params: dict[str, Any],
        past: dict[str, Any],
        pixels_BTHWC: Shaped[Array, "b t h w 3"],
        first: Int[Array, ""],
    ) -> tuple[Float[Array, "b n c"], dict[str, Any]]:
        """The modes of the tubelets from number `first` in time on, and the past with them."""
        assert self._encoder is not None, f"a codec of part {self.part} has no encoder"
        piece = tubelets.patchify(to_unit(pixels_BTHWC), self.variant.tubelet)
        moved = piece.positions.at[..., 0].add(first)
        piece = dataclasses.replace(piece, positions=moved)
        variables = {"params": params["encoder"], transformer.PAST: past}
        made: Any = self._encoder.apply(variables, piece, mutable=[transformer.PAST])
        posterior, kept = made
        tokens = piece.patches.shape[1] // (pixels_BTHWC.shape[1] // self.variant.tubelet.frames)
        return posterior.mode(), self._remembered(kept, tokens)

    def _decode_piece(
        self,
        params: dict[str, Any],
        past: dict[str, Any],
        tokens_BNC: Float[Array, "b n c"],
        first: Int[Array, ""],
        *,
        grid: tubelets.Grid,
    ) -> tuple[Float[Array, "b t h w 3"], dict[str, Any]]:
        """Pixels in [-1, 1] of the tokens from tubelet `first` in time on, and the past."""
        assert self._decoder is not None, f"a codec of part {self.part} has no decoder"
        positions_N3 = jnp.asarray(tubelets.positions_of(grid)).at[:, 0].add(first)
        positions_BN3 = jnp.broadcast_to(positions_N3, (*tokens_BNC.shape[:2], 3))
        latents = tubelets.Latents(tokens=tokens_BNC, positions=positions_BN3)
        variables = {"params": params["decoder"], transformer.PAST: past}
        made: Any = self._decoder.apply(variables, latents, mutable=[transformer.PAST])
        patches_BNP, kept = made
        video_BTHWC = tubelets.unpatchify(patches_BNP, grid, self.variant.tubelet)
        return from_unit(video_BTHWC, "float32"), self._remembered(kept, grid.h * grid.w)

    def _remembered(self, kept: Any, tokens: int) -> dict[str, Any]:
        past: dict[str, Any] = kept[transformer.PAST]
        if not self._config.time_window:
            return past
        return transformer.shortened_past(past, (self._config.time_window - 1) * tokens)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A codec with its parameters: what the rest of the room works with.

    Attributes:
      codec: the two functions.
      params: `{"encoder": ..., "decoder": ...}`, placed on the devices that are to compute.
      sides: sides in pixels that the model was trained at, ascending.
      frames: of the clips that it was trained on.
    """

    codec: Codec
    params: dict[str, Any]
    sides: tuple[int, ...]
    frames: int

    def encode(
        self, pixels_BTHWC: Shaped[Array, "b t h w 3"], draws_B3: Int[Array, "b 3"] | None
    ) -> Float[Array, "b n c"]:
        """Latent tokens of a batch; see `Codec`."""
        return self.codec.encode(self.params, pixels_BTHWC, draws_B3)

    def decode(
        self, tokens_BNC: Float[Array, "b n c"], grid: tubelets.Grid, kind: Kind
    ) -> Shaped[Array, "b t h w 3"]:
        """Pixels of a batch; see `Codec`."""
        return self.codec.decode(self.params, tokens_BNC, grid=grid, kind=kind)


def drawn(
    posterior: bottleneck.Posterior, draws_B3: Int[Array, "b 3"] | None
) -> Float[Array, "b n c"]:
    """The mode of a posterior, or the samples that `draws_B3` number."""
    if draws_B3 is None:
        return posterior.mode()
    return jax.vmap(lambda row, draw_3: row.sample(_key(draw_3)))(posterior, draws_B3)


def to_unit(pixels: Shaped[Array, "*b"]) -> Float[Array, "*b"]:
    """Pixels in [-1, 1], float32; uint8 is taken as x / 127.5 - 1, floats as they are."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 127.5 - 1.0
    return pixels.astype(jnp.float32)


def from_unit(pixels: Float[Array, "*b"], kind: Kind) -> Shaped[Array, "*b"]:
    """Clips to [-1, 1]; for `uint8` also scales to [0, 255] and rounds, halves to even."""
    pixels = jnp.clip(pixels, -1.0, 1.0)
    if kind == "float32":
        return pixels
    return jnp.round((pixels + 1.0) * 127.5).astype(jnp.uint8)


def trained_sides(config: config_lib.DataConfig) -> tuple[int, ...]:
    """Sides of the training crops, ascending."""
    return tuple(sorted(set(config.sizes or (config.size,))))


def draws(seed: int, indices_B: Int[np.ndarray, "b"]) -> Int[np.ndarray, "b 3"]:
    """Numbers of posterior samples: (seed, picture, tile 0).

    A sample depends on these alone, so a picture's does not change with its batch.
    """
    rows = [np.full_like(indices_B, seed), indices_B, np.zeros_like(indices_B)]
    return np.stack(rows, axis=1).astype(np.int32)


def _key(draw_3: Int[Array, "3"]) -> Array:
    seed, picture, tile = draw_3
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), picture), tile)
