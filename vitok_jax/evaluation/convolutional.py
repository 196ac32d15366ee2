"""The convolutional auto-encoder as a codec, so that it can stand in the same table."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from vitok_jax.evaluation import codec
from vitok_jax.models import autoencoder_kl, tubelets, variants


class ConvolutionalCodec(codec.Codec):
    """Encoder and decoder of an `AutoencoderKL`: a latent is a token of stride x stride pixels.

    Clips go through frame by frame.
    """

    def __init__(self, config: autoencoder_kl.Config, *, part: codec.Part) -> None:
        """Takes the network's sizes."""
        stride, channels = config.stride, config.latent_channels
        # By analogy: what is widest, and how many layers there are.
        depth = config.layers_per_block * len(config.block_out_channels)
        size = variants.Size(max(config.block_out_channels), depth, 1)
        name = f"AutoencoderKL/1x{stride}x{channels}"
        self.variant = variants.Variant(name, size, size, variants.Tubelet(1, stride), channels)
        self.part = part
        self.time_attention = "full"
        self.dtype = "float32"
        self._network = autoencoder_kl.Encoder(config), autoencoder_kl.Decoder(config)
        self.encode = jax.jit(self._encode)
        self.decode = jax.jit(self._decode, static_argnames=("grid", "kind"))

    def _encode(
        self,
        params: dict[str, Any],
        pixels_BTHWC: Shaped[Array, "b t h w 3"],
        draws_B3: Int[Array, "b 3"] | None = None,
    ) -> Float[Array, "b n c"]:
        pixels = codec.to_unit(pixels_BTHWC)
        frames = pixels.reshape(-1, *pixels.shape[2:])
        posterior: Any = self._network[0].apply({"params": params["encoder"]}, frames)
        tokens = (len(pixels), -1, self.variant.channels)
        posterior = jax.tree.map(lambda x: x.reshape(tokens), posterior)
        return codec.drawn(posterior, draws_B3)

    def _decode(
        self,
        params: dict[str, Any],
        tokens_BNC: Float[Array, "b n c"],
        *,
        grid: tubelets.Grid,
        kind: codec.Kind,
    ) -> Shaped[Array, "b t h w 3"]:
        frames = tokens_BNC.reshape(-1, grid.h, grid.w, self.variant.channels)
        made: Any = self._network[1].apply({"params": params["decoder"]}, frames)
        return codec.from_unit(made.reshape(-1, grid.t, *made.shape[1:]).astype(jnp.float32), kind)
