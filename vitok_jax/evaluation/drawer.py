"""Noise to pixels: a diffusion transformer and a decoder, in bounded calls over a mesh."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from vitok_jax import config as config_lib
from vitok_jax.diffusion import build as diffusion_lib
from vitok_jax.diffusion import guidance as guidance_lib
from vitok_jax.diffusion import noise, samplers
from vitok_jax.evaluation import codec as codec_lib
from vitok_jax.evaluation import devices
from vitok_jax.tasks import dit, latent_space


@dataclasses.dataclass(frozen=True)
class Weights:
    """What draws, placed on the devices of a `Drawer`.

    Attributes:
      dit: parameters of the transformer.
      decoder: parameters of the tokenizer's decoder.
    """

    dit: Any
    decoder: Any


class Drawer:
    """Draws samples of given numbers and labels.

    Sample i of a seed is one function of (seed, i, label, weights): its noise comes from its own
    key, whatever the batch and the devices (`vitok_jax.diffusion.noise`).

    Attributes:
      shape_thw: frames, height and width of a sample.
    """

    def __init__(
        self,
        task: dit.DitTask,
        sampler: config_lib.SamplerConfig,
        rows: devices.Rows,
        *,
        batch_size: int,
    ) -> None:
        """Checks the settings; nothing is compiled yet.

        Args:
          task: of the run that trained the transformer.
          sampler: how to draw.
          rows: devices.
          batch_size: samples of one call over all of them.

        Raises:
          UsageError: a setting is out of range, or the network never saw an example without label
            and guidance needs that.
        """
        self._task, self._rows, self._batch = task, rows, batch_size
        self._sampler, self._steps = diffusion_lib.build_sampler(sampler), sampler.steps
        task.process.levels(sampler.steps)
        self.guidance = diffusion_lib.build_guidance(
            sampler, class_dropout=task.config.model.class_dropout
        )
        self._codec = codec_lib.Codec(task.space.model, part="decoder")
        tubelet = task.space.variant.tubelet
        self.shape_thw = (
            task.grid.frames(tubelet),
            task.grid.h * tubelet.patch,
            task.grid.w * tubelet.patch,
        )
        self._jitted = jax.jit(self.pixels)

    def latents(
        self,
        params: Any,
        seed: Array,
        indices_B: Int[Array, "b"],
        labels_B: Int[Array, "b"],
        guidance: guidance_lib.Guidance | None,
    ) -> Array:
        """Latents as the decoder wants them, [B, N, C]; to be traced."""
        task = self._task
        predict = guidance_lib.predictor(
            task.process,
            task.network(params),
            labels_B,
            guidance,
            null_label=task.config.model.num_classes,
        )
        keys_B = noise.sample_keys(jax.random.key(seed), indices_B)
        shape = (task.grid.tokens, task.space.channels)
        tokens_BNC = samplers.sample(
            task.process, self._sampler, predict, keys_B, shape, self._steps
        )
        return latent_space.denormalise(tokens_BNC, task.space.mean, task.space.scale)

    def draw(
        self,
        weights: Weights,
        indices: Int[np.ndarray, "n"],
        labels: Int[np.ndarray, "n"],
        *,
        seed: int,
        guidance: guidance_lib.Guidance | None,
    ) -> UInt8[np.ndarray, "n t h w 3"]:
        """Pixels of samples.

        Args:
          weights: on the devices.
          indices: numbers of the samples.
          labels: their classes.
          seed: of the whole set.
          guidance: usually `self.guidance`; other numbers in it compile nothing anew.

        Returns:
          The samples in their order, on the host.
        """
        if not len(indices):
            return np.zeros((0, *self.shape_thw, 3), np.uint8)
        # Always whole batches, so that one program is compiled.
        surplus = -len(indices) % self._rows.chunk(self._batch, at_most=self._batch, sizes="exact")
        filled = [
            np.concatenate([array, np.repeat(array[-1:], surplus)]).astype(np.int32)
            for array in (indices, labels)
        ]
        number = jnp.uint32(seed)
        pixels = self._rows.map(
            lambda i, label: self._jitted(weights.dit, weights.decoder, number, i, label, guidance),
            *filled,
            at_most=self._batch,
        )
        return pixels[: len(indices)]

    def pixels(
        self,
        params: Any,
        decoder: Any,
        seed: Array,
        indices_B: Int[Array, "b"],
        labels_B: Int[Array, "b"],
        guidance: guidance_lib.Guidance | None,
    ) -> UInt8[Array, "b t h w 3"]:
        """Pixels of a batch of samples; to be traced."""
        tokens_BNC = self.latents(params, seed, indices_B, labels_B, guidance)
        return self._codec.decode(
            {"decoder": decoder}, tokens_BNC, grid=self._task.grid, kind="uint8"
        )
