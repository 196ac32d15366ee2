"""Stage 1: encoder and decoder trained together to reconstruct (paper equation 1, lambda = 0)."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, UInt8

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.backbones import vgg
from vitok_jax.data import pipeline, plans
from vitok_jax.losses import latent, perceptual, pixel
from vitok_jax.models import bottleneck, cost, layers, shapes, tubelets, vitok
from vitok_jax.tasks import accumulation, task

# Smallest side that VGG16 (four halvings) and an 11-pixel SSIM window can see.
_LPIPS_SIDE = 16
_SSIM_SIDE = 11

_PIXEL_RANGE = 2.0  # of [-1, 1]


@flax.struct.dataclass
class _Example:
    """What one picture brings to a step; every leaf has the batch as its first axis."""

    pixels: UInt8[Array, "b t h w 3"]
    noise_keys: Key[Array, "b"]


class TokenizerTask(task.Plain):
    """Trains a ViTok on pixel, perceptual, structural and KL terms."""

    name = "tokenizer"

    def __init__(self, config: config_lib.TokenizerConfig):
        """Checks what can be checked without data.

        Args:
          config: the run.

        Raises:
          UsageError: the variant does not parse, pictures are too small for a loss term, or parts
            of a batch do not come out even.
        """
        self.config = config
        self.module = vitok.build(config.model)
        self._dtype = layers.compute_dtype(config.model)
        _check(config, self.module)

    def init(self, key: Key[Array, ""]) -> Any:
        """Fresh parameters, boxed with their logical axis names."""
        return vitok.boxed_params(self.module, key)

    def frozen(self) -> Any:
        """The LPIPS network, when its weight is not 0."""
        return vgg.load_vgg16_lpips() if self.config.loss.lpips else None

    def update(
        self, state: task.StateT, batch: task.Batch, frozen: Any
    ) -> tuple[task.StateT, task.Metrics]:
        """One step of stage 1; see `vitok_jax.tasks.task.Task.update`."""
        noise_key, lpips_key = jax.random.split(state.step_key)
        examples = _Example(
            pixels=batch["pixels"],
            # A key per picture: its noise depends on neither the devices nor the microbatches.
            noise_keys=jax.random.split(noise_key, batch["pixels"].shape[0]),
        )

        def loss(params: Any, part: _Example, key: Key[Array, ""]) -> tuple[Array, task.Metrics]:
            return self.losses(params, part.pixels, part.noise_keys, key, frozen)

        grads, metrics = accumulation.gradients(
            loss, state.params, examples, lpips_key, parts=self.config.optimizer.accumulate
        )
        metrics["grad_norm"] = optax.global_norm(grads)
        metrics["learning_rate"] = state.learning_rate
        return state.apply_gradients(grads), metrics

    @property
    def frames_per_step(self) -> int:
        """Pictures in a step at side `data.size`, or its clips times their frames."""
        return self.config.data.batch_size * self.config.data.frames

    def specs(self) -> list[task.BatchSpec]:
        """Every shape that a training batch can have; only pixels go to the devices."""
        kinds = plans.step_kinds(self.config.data, process_count=1)
        return [
            task.BatchSpec(
                {"pixels": (shape.batch, shape.frames, shape.height, shape.width, 3)},
                {"pixels": np.dtype(np.uint8)},
            )
            for shape in dict.fromkeys(kind.shape for kind in kinds)
        ]

    def batches(
        self, start_step: int, process_index: int, process_count: int
    ) -> pipeline.TrainBatches:
        """Training pictures from a step on."""
        return pipeline.train_batches(
            self.config.data,
            seed=self.config.seed,
            start_step=start_step,
            process_index=process_index,
            process_count=process_count,
        )

    def flops(self, spec: task.BatchSpec) -> float:
        """Two per multiply-accumulate; a backward pass counts twice its forward pass.

        LPIPS runs its network forward on both pictures and backward to the pixels of one, without
        gradients of its weights: three times the network. Recomputation (`model.remat`) does not
        count.
        """
        batch, frames, height, width, _ = spec.shapes["pixels"]
        model = cost.cost(self.config.model, (frames, height, width)).macs * batch
        return 2.0 * 3.0 * (model + self.lpips_macs(spec))

    def lpips_macs(self, spec: task.BatchSpec) -> int:
        """Multiply-accumulates of one pass of the LPIPS network over what it sees of a batch."""
        batch, frames, height, width, _ = spec.shapes["pixels"]
        settings = self.config.loss
        pictures = min(settings.lpips_pictures or batch * frames, batch * frames)
        crop = settings.lpips_crop
        sides = (min(crop or height, height), min(crop or width, width))
        return vgg_macs(*sides) * pictures if settings.lpips else 0

    def losses(
        self,
        params: Any,
        pixels_BTHWC: UInt8[Array, "b t h w 3"],
        noise_keys_B: Key[Array, "b"],
        key: Key[Array, ""],
        lpips_weights: Any,
    ) -> tuple[Float[Array, ""], task.Metrics]:
        """The objective of a batch and its terms, unweighted.

        Args:
          params: of the model.
          pixels_BTHWC: pictures or clips.
          noise_keys_B: one key per example, for its posterior sample.
          key: chooses the pictures and crops that LPIPS sees.
          lpips_weights: from `frozen`.

        Returns:
          The weighted sum, and each term by name.
        """
        target_BTHWC = normalise(pixels_BTHWC)
        tokens_BNC, kl = self.latents(params, target_BTHWC, noise_keys_B)
        output_BTHWC = self.decode(params, tokens_BNC, target_BTHWC.shape)
        total, terms = self.distances(output_BTHWC, target_BTHWC, key, lpips_weights)
        if kl is not None:
            terms["kl"] = kl
            total += self.config.loss.kl * kl
        return total, {"loss": total, **terms}

    def latents(
        self, params: Any, video_BTHWC: Float[Array, "b t h w 3"], noise_keys_B: Key[Array, "b"]
    ) -> tuple[Float[Array, "b n c"], Float[Array, ""] | None]:
        """Latents as training sees them: samples of the posterior.

        Args:
          params: of the model, or of its encoder alone under its name.
          video_BTHWC: clips in [-1, 1].
          noise_keys_B: one key per example.

        Returns:
          Tokens, and the KL term, None where the bottleneck has no posterior.
        """
        posterior = self.encode(params, video_BTHWC)
        tokens_BNC = jax.vmap(lambda one, k: one.sample(k))(posterior, noise_keys_B)
        if posterior.logvar is None:
            return tokens_BNC, None
        return tokens_BNC, latent.kl(posterior.mean, posterior.logvar)

    def distances(
        self,
        output_BTHWC: Float[Array, "b t h w 3"],
        target_BTHWC: Float[Array, "b t h w 3"],
        key: Key[Array, ""],
        lpips_weights: Any,
    ) -> tuple[Float[Array, ""], task.Metrics]:
        """The terms of the objective that compare pixels.

        Args:
          output_BTHWC: reconstructions, about [-1, 1].
          target_BTHWC: originals.
          key: chooses the pictures and crops that LPIPS sees.
          lpips_weights: from `frozen`.

        Returns:
          The weighted sum, and each term by name, unweighted, with the mean PSNR.
        """
        weights = self.config.loss
        terms = {"pixel": pixel.pixel_loss(weights, output_BTHWC, target_BTHWC)}
        total = weights.pixel_weight * terms["pixel"]
        output_FHWC, target_FHWC = _frames(output_BTHWC), _frames(target_BTHWC)
        if weights.lpips:
            terms["lpips"] = self._lpips(key, output_FHWC, target_FHWC, lpips_weights)
            total += weights.lpips * terms["lpips"]
        if weights.ssim:
            terms["ssim_loss"] = perceptual.ssim_loss(output_FHWC, target_FHWC)
            total += weights.ssim * terms["ssim_loss"]
        terms["psnr"] = _psnr(output_BTHWC, target_BTHWC)
        return total, terms

    def encode(self, params: Any, video_BTHWC: Float[Array, "b t h w 3"]) -> bottleneck.Posterior:
        """Posterior over the latents of clips in [-1, 1]."""
        time_attention = self.config.model.time_attention
        inputs = tubelets.patchify(video_BTHWC, self.module.variant.tubelet, time_attention)
        posterior: Any = self.module.apply({"params": params}, inputs, method="encode")
        return posterior

    def decode(
        self, params: Any, tokens_BNC: Float[Array, "b n c"], shape: Sequence[int]
    ) -> Float[Array, "b t h w 3"]:
        """Clips of a shape [B, T, H, W, 3] from latents; about [-1, 1], not clipped."""
        tubelet = self.module.variant.tubelet
        frames, height, width = shape[1:4]
        time_attention = self.config.model.time_attention
        grid = shapes.grid_of((frames, height, width), tubelet, time_attention)
        positions_N3 = jnp.asarray(shapes.positions_of(grid))
        latents = tubelets.Latents(
            tokens=tokens_BNC,
            positions=jnp.broadcast_to(positions_N3, (shape[0], *positions_N3.shape)),
        )
        patches_BNP: Any = self.module.apply({"params": params}, latents, method="decode")
        return tubelets.unpatchify(patches_BNP, grid, tubelet)

    def reconstruct(
        self, params: Any, pixels_BTHWC: UInt8[Array, "b t h w 3"]
    ) -> Float[Array, "b t h w 3"]:
        """What evaluation sees: the decoded mode of the posterior, not clipped."""
        video_BTHWC = normalise(pixels_BTHWC)
        tokens_BNC = self.encode(params, video_BTHWC).mode()
        return self.decode(params, tokens_BNC, video_BTHWC.shape)

    def _lpips(
        self,
        key: Key[Array, ""],
        output_FHWC: Float[Array, "f h w 3"],
        target_FHWC: Float[Array, "f h w 3"],
        weights: Any,
    ) -> Float[Array, ""]:
        """Mean LPIPS of the pictures and crops that the settings let it see."""
        settings = self.config.loss
        select_key, crop_key = jax.random.split(key)
        count = settings.lpips_pictures // self.config.optimizer.accumulate
        pair = perceptual.select(select_key, output_FHWC, target_FHWC, count=count)
        pair = perceptual.random_crop(crop_key, *pair, side=settings.lpips_crop)
        return jnp.mean(perceptual.lpips(weights, *pair, dtype=self._dtype))


def normalise(pixels: UInt8[Array, "*b"]) -> Float[Array, "*b"]:
    """Bytes to float32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


def _frames(video_BTHWC: Float[Array, "b t h w c"]) -> Float[Array, "f h w c"]:
    """Frames as pictures: LPIPS and SSIM are per frame (paper section 2.3)."""
    return video_BTHWC.reshape(-1, *video_BTHWC.shape[2:])


def _psnr(x_BTHWC: Float[Array, "b t h w c"], y_BTHWC: Float[Array, "b t h w c"]) -> Array:
    """Mean over examples, in decibels, of unrounded and unclipped pixels."""
    mse_B = jnp.mean(jnp.square(x_BTHWC - y_BTHWC), axis=(1, 2, 3, 4))
    return jnp.mean(10 * jnp.log10(_PIXEL_RANGE**2 / jnp.maximum(mse_B, 1e-10)))


def vgg_macs(height: int, width: int) -> int:
    """Multiply-accumulates of the thirteen convolutions of VGG16 on one picture."""
    macs, channels = 0, 3
    for stage, widths in enumerate(vgg.STAGES):
        places = (height >> stage) * (width >> stage)
        for outputs in widths:
            macs += 9 * channels * outputs * places
            channels = outputs
    return macs


def _check(config: config_lib.TokenizerConfig, module: vitok.ViTok) -> None:
    """Refuses settings that cannot train, before anything is compiled."""
    loss, parts = config.loss, config.optimizer.accumulate
    for side in config.data.sizes or (config.data.size,):
        try:
            shape_thw = (config.data.frames, side, side)
            shapes.grid_of(shape_thw, module.variant.tubelet, config.model.time_attention)
        except errors.UsageError as error:
            raise errors.UsageError(f"data.frames, data.size or data.sizes: {error}") from error
        seen = min(loss.lpips_crop or side, side)
        if loss.lpips and seen < _LPIPS_SIDE:
            raise errors.UsageError(
                f"loss.lpips: pictures of {seen} pixels are too small for VGG16; allowed: "
                f"{_LPIPS_SIDE} and more, or loss.lpips=0"
            )
        if loss.ssim and side < _SSIM_SIDE:
            raise errors.UsageError(
                f"loss.ssim: pictures of {side} pixels are too small for its window; allowed: "
                f"{_SSIM_SIDE} and more, or loss.ssim=0"
            )
    if loss.lpips_pictures % parts:
        raise errors.UsageError(
            f"loss.lpips_pictures: {loss.lpips_pictures} does not divide into "
            f"optimizer.accumulate={parts} parts; allowed: multiples of {parts}"
        )
