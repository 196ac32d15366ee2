"""Stage 2: the decoder learns to please a discriminator as well (paper equation 1, lambda > 0)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.backbones import feature_maps, vgg
from vitok_jax.losses import adversarial, guards, one_forward
from vitok_jax.models import cost, counting
from vitok_jax.models import discriminator as discriminator_lib
from vitok_jax.tasks import task, tokenizer

_GENERATORS = {"decoder": ("decoder",), "all": ("encoder", "decoder")}


class AdversarialTask(tokenizer.TokenizerTask):
    """Trains the decoder, or the whole tokenizer, together with a discriminator.

    Parameters are `{"encoder", "decoder", "discriminator"}`; a tokenizer is read from such a
    checkpoint as from any other. Both networks are updated in every step, from one forward pass
    each.
    """

    def __init__(self, config: config_lib.TokenizerConfig):
        """Checks what can be checked without data.

        Args:
          config: the run.

        Raises:
          UsageError: as for stage 1, or the discriminator does not take the pictures, or gradients
            are to be accumulated.
        """
        super().__init__(config)
        settings = config.adversarial
        self._parts = _GENERATORS[settings.train]
        self._judge = discriminator_lib.build(settings.discriminator, dtype=self._dtype)
        self._macs: dict[Any, tuple[int, int]] = {}
        shapes = [spec.shapes["pixels"] for spec in self.specs()]
        for shape in shapes:
            discriminator_lib.check(settings.discriminator, shape)
        _check(config, sides={shape[2] for shape in shapes})

    def init(self, key: Key[Array, ""]) -> Any:
        """Fresh parameters of tokenizer and discriminator, boxed with their logical axis names."""
        tokenizer_key, key = jax.random.split(key)
        backbone = self._backbone(self.frozen())
        shape = self.specs()[0].shapes["pixels"]
        return {
            **super().init(tokenizer_key),
            "discriminator": self._judge.boxed_params(key, shape, backbone=backbone),
        }

    def groups(self) -> Mapping[str, task.Group]:
        """Generator and discriminator; a frozen encoder is in neither."""
        config = self.config
        return {
            "generator": task.Group(self._parts, config.optimizer, "optimizer"),
            "discriminator": task.Group(
                ("discriminator",), config.adversarial.optimizer, "adversarial.optimizer"
            ),
        }

    def carried(self) -> adversarial.Averages:
        """Running averages of logits and of the win rate."""
        return adversarial.no_averages()

    def verdict(self, scalars: Mapping[str, float]) -> str | None:
        """What the guards say."""
        return guards.verdict(self.config.adversarial, scalars)

    def frozen(self) -> Any:
        """VGG16 with the heads of LPIPS, where LPIPS or the discriminator looks through it."""
        if self.config.loss.lpips or self.config.adversarial.discriminator.kind == "features":
            return vgg.load_vgg16_lpips()
        return None

    def update(
        self, state: task.StateT, batch: task.Batch, frozen: Any
    ) -> tuple[task.StateT, task.Metrics]:
        """One step of stage 2; see `vitok_jax.tasks.task.Task.update`."""
        noise_key, lpips_key = jax.random.split(state.step_key)
        target_BTHWC = tokenizer.normalise(batch["pixels"])
        found = one_forward.gradients(
            self.problem(frozen, batch=target_BTHWC.shape[0]),
            generator={part: state.params[part] for part in self._parts},
            discriminator=state.params["discriminator"],
            averages=state.carried,
            step=state.step,
            real_BTHWC=target_BTHWC,
            reconstruct=self._generator(
                state.params, target_BTHWC, jax.random.split(noise_key, len(target_BTHWC))
            ),
            reconstruction_loss=lambda made: self.distances(made, target_BTHWC, lpips_key, frozen),
        )
        metrics = {
            "loss": found.loss,
            **found.aux[0],
            **found.aux[1],
            **found.scalars,
            "grad_norm": optax.global_norm(found.generator),
            "adversarial/grad_norm": optax.global_norm(found.discriminator),
            "learning_rate": state.learning_rate,
        }
        grads = {**found.generator, "discriminator": found.discriminator}
        return state.apply_gradients(grads).carry(found.averages), metrics

    def flops(self, spec: task.BatchSpec) -> float:
        """Two per multiply-accumulate of what the step executes.

        Three times the decoder (and the encoder, unless it is frozen: then once) and LPIPS, as in
        stage 1; seven times the discriminator (forward on pictures and reconstructions, backward
        twice to its weights and once more to the pixels), of a frozen network below it three times;
        four times all of it for each gradient penalty, every `penalty_every` steps.
        """
        batch, *shape_thw, _ = spec.shapes["pixels"]
        settings = self.config.adversarial
        model = cost.cost(self.config.model, (shape_thw[0], shape_thw[1], shape_thw[2]))
        encoder_passes = 1 if settings.train == "decoder" else 3
        tokens = batch * (encoder_passes * model.encoder.macs + 3 * model.decoder.macs)
        below, judge = self.discriminator_macs(spec)
        penalties = (bool(settings.r1) + bool(settings.r2)) / settings.penalty_every
        judging = 3 * below + 7 * judge + 4 * penalties * (below + judge)
        return 2.0 * (tokens + 3 * self.lpips_macs(spec) + judging)

    def problem(self, frozen: Any, *, batch: int) -> one_forward.Problem:
        """The networks and settings of a step, for `one_forward.gradients`.

        Args:
          frozen: from `frozen`.
          batch: pictures or clips per step over all devices.
        """
        backbone = self._backbone(frozen)
        judge = self._judge
        return one_forward.Problem(
            config=self.config.adversarial,
            discriminate=lambda p, x: judge.logits(p, x, backbone=backbone),
            discriminate_exactly=lambda p, x: judge.logits(
                p, x, backbone=backbone, precision=jnp.float32
            ),
            last_layer=lambda generator: generator["decoder"]["pixels"],
            batch=batch,
        )

    def discriminator_macs(self, spec: task.BatchSpec) -> tuple[int, int]:
        """Multiply-accumulates of one pass over a batch: of the frozen part, of the trained one."""
        if spec.key not in self._macs:
            self._macs[spec.key] = self._count(spec.shapes["pixels"])
        return self._macs[spec.key]

    def _count(self, shape: tuple[int, ...]) -> tuple[int, int]:
        settings = self.config.adversarial.discriminator
        below = 0
        if settings.kind == "features":
            below = tokenizer.vgg_macs(shape[2], shape[3]) * shape[0] * shape[1]
        backbone = self._backbone(self.frozen())
        params = jax.eval_shape(
            lambda key: self._judge.init(key, shape, backbone=backbone), jax.random.key(0)
        )
        pixels_BTHWC = jax.ShapeDtypeStruct(shape, jnp.float32)
        whole = counting.macs(
            lambda p, x: self._judge.logits(p, x, backbone=backbone), params, pixels_BTHWC
        )
        return below, whole - below

    def _backbone(self, frozen: Any) -> feature_maps.Vgg16Maps | None:
        """The frozen network below the discriminator's heads."""
        if self.config.adversarial.discriminator.kind != "features":
            return None
        return feature_maps.Vgg16Maps(frozen)

    def _generator(
        self, params: Any, target_BTHWC: Float[Array, "b t h w 3"], noise_keys_B: Key[Array, "b"]
    ) -> Any:
        """The trained part as a function of its parameters, for `one_forward.gradients`."""
        shape = target_BTHWC.shape

        def whole(trained: Any) -> Any:
            tokens_BNC, kl = self.latents(trained, target_BTHWC, noise_keys_B)
            pixels_BTHWC = self.decode(trained, tokens_BNC, shape)
            if kl is None:
                return (pixels_BTHWC, jnp.zeros(())), {}
            return (pixels_BTHWC, self.config.loss.kl * kl), {"kl": kl}

        if "encoder" in self._parts:
            return whole
        # Outside of what is differentiated: the encoder has no backward pass.
        tokens_BNC, _ = self.latents(params, target_BTHWC, noise_keys_B)
        return lambda trained: ((self.decode(trained, tokens_BNC, shape), jnp.zeros(())), {})


def for_stage(config: config_lib.TokenizerConfig) -> tokenizer.TokenizerTask:
    """The task of a tokenizer's run: that of its stage.

    Raises:
      UsageError: the settings cannot train.
    """
    return AdversarialTask(config) if config.stage == 2 else tokenizer.TokenizerTask(config)


def _check(config: config_lib.TokenizerConfig, *, sides: set[int]) -> None:
    """Refuses what only stage 2 cannot do."""
    for section, optimizer in (
        ("optimizer", config.optimizer),
        ("adversarial.optimizer", config.adversarial.optimizer),
    ):
        if optimizer.accumulate > 1:
            raise errors.UsageError(
                f"{section}.accumulate: {optimizer.accumulate} does not go with stage 2, whose "
                "terms are not means over parts of a batch; allowed: 1"
            )
    if config.adversarial.discriminator.kind == "residual" and len(sides) > 1:
        raise errors.UsageError(
            f"data.sizes: sides {sorted(sides)} do not go with discriminator kind 'residual', "
            "whose weights belong to one side; allowed: one side, or kind patch or features"
        )
