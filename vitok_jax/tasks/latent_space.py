"""The latents of a trained tokenizer, as a diffusion transformer sees them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.models import bottleneck, shapes, tubelets, variants, vitok

# A channel whose scale is below this share of the largest says nothing; dividing by its scale
# would blow up rounding errors.
_DEAD = 1e-5


@dataclasses.dataclass(frozen=True)
class LatentSpace:
    """Encoder of a tokenizer and the statistics that its latents are normalised by.

    Attributes:
      model: the tokenizer's choices.
      encoder: its encoder's parameters, NumPy arrays.
      mean: of each latent channel over training pictures.
      scale: standard deviation of each channel of posterior samples.
      path: where the tokenizer was loaded from.
      sha256: of the encoder's weights: latents of another encoder are another language.
    """

    model: config_lib.ModelConfig
    encoder: Any
    mean: Float[np.ndarray, " c"]
    scale: Float[np.ndarray, " c"]
    path: str
    sha256: str

    @functools.cached_property
    def variant(self) -> variants.Variant:
        """The tokenizer's variant."""
        return variants.parse(self.model.variant)

    @property
    def channels(self) -> int:
        """Numbers per latent token."""
        return self.variant.channels

    @property
    def condition(self) -> float:
        """Largest over smallest scale of a channel; 1 is best."""
        return float(self.scale.max() / self.scale.min())

    def grid(self, shape_thw: tuple[int, int, int]) -> shapes.Grid:
        """Tokens of a clip of frames, rows and columns of pixels.

        Raises:
          UsageError: the tubelet does not divide it.
        """
        return shapes.grid_of(shape_thw, self.variant.tubelet, self.model.time_attention)

    def arrays(self) -> dict[str, Any]:
        """What a compiled step reads, as a tree."""
        return {"encoder": self.encoder, "mean": self.mean, "scale": self.scale}

    def posterior(
        self, encoder: Any, pixels_BTHWC: Shaped[Array, "b t h w 3"]
    ) -> bottleneck.Posterior:
        """Posterior over the latents of uint8 clips.

        Args:
          encoder: the parameters, on the devices.
          pixels_BTHWC: 0 to 255.
        """
        video_BTHWC = pixels_BTHWC.astype(jnp.float32) / 127.5 - 1.0
        inputs = tubelets.patchify(video_BTHWC, self.variant.tubelet, self.model.time_attention)
        found: Any = vitok.build_encoder(self.model).apply({"params": encoder}, inputs)
        return found

    def describe(self) -> dict[str, Any]:
        """What a checkpoint of a run in this space says of it; JSON."""
        return {
            "path": self.path,
            "encoder_sha256": self.sha256,
            "variant": self.model.variant,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    def check(self, described: Mapping[str, Any], what: str) -> None:
        """Sees that something was made in this space.

        Args:
          described: what `describe` said then.
          what: that was made, for the message.

        Raises:
          UsageError: it was made in the space of another encoder, or normalised otherwise.
        """
        channels = len(described["mean"])
        if channels != self.channels:
            raise errors.UsageError(
                f"{what}: its latents have {channels} channels ({described['variant']} of "
                f"{described['path']}), those of {self.path} have {self.channels}; allowed: the "
                "tokenizer it was trained with"
            )
        if described["encoder_sha256"] != self.sha256:
            raise errors.UsageError(
                f"{what}: belongs to the encoder {described['encoder_sha256'][:12]} of "
                f"{described['path']}, not to {self.sha256[:12]} of {self.path}; allowed: the "
                "tokenizer it was trained with"
            )
        for name in ("mean", "scale"):
            if not np.allclose(described[name], getattr(self, name), rtol=1e-5, atol=1e-7):
                raise errors.UsageError(
                    f"{what}: was normalised by another {name} of latents than {self.path} now "
                    "has; allowed: the statistics it was trained with"
                )


def normalise(
    tokens: Float[Array, "*b n c"],
    mean_C: Float[Array | np.ndarray, "c"],
    scale_C: Float[Array | np.ndarray, "c"],
) -> Float[Array, "*b n c"]:
    """Latents as the transformer sees them: about zero mean and unit variance per channel."""
    return (tokens - mean_C) / scale_C


def denormalise(
    tokens: Float[Array, "*b n c"],
    mean_C: Float[Array | np.ndarray, "c"],
    scale_C: Float[Array | np.ndarray, "c"],
) -> Float[Array, "*b n c"]:
    """Latents as the decoder wants them; inverse of `normalise`."""
    return tokens * scale_C + mean_C


def build(
    model: config_lib.ModelConfig,
    encoder: Any,
    stats: Mapping[str, Any] | None,
    *,
    path: str,
    sha256: str,
) -> LatentSpace:
    """The space of a tokenizer.

    Args:
      model: its choices.
      encoder: its encoder's parameters.
      stats: `latent_stats` of its checkpoint's metadata; None where they were not measured.
      path: where it was loaded from.
      sha256: of the encoder's weights.

    Raises:
      UsageError: there are no statistics, they are of another model, or a channel is dead.
    """
    if not stats:
        raise errors.UsageError(
            f"{path}: has no latent statistics; allowed: a tokenizer with them, for example after "
            f"`python -m vitok_jax.evaluate --checkpoint={path} --write_latent_stats --out=DIR`"
        )
    mean, std, noise = (
        np.asarray(stats[name], np.float64) for name in ("mean", "std", "posterior_std")
    )
    channels = variants.parse(model.variant).channels
    if mean.shape != (channels,):
        raise errors.UsageError(
            f"{path}: has latent statistics of {mean.size} channels; allowed: {channels}, as "
            f"{model.variant} has"
        )
    scale = np.sqrt(std**2 + noise**2)
    if not scale.min() > _DEAD * scale.max():
        raise errors.UsageError(
            f"{path}: latent channel {int(scale.argmin())} has a standard deviation of "
            f"{scale.min():.3g} where the largest is {scale.max():.3g}; allowed: more than "
            f"{_DEAD:g} of it"
        )
    return LatentSpace(
        model=model,
        encoder=jax.tree.map(np.asarray, encoder),
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        path=path,
        sha256=sha256,
    )
