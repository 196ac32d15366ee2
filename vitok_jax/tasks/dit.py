"""A diffusion transformer in the latent space of a frozen tokenizer (paper section 4)."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Real, Shaped

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import latents as latents_lib
from vitok_jax.data import pipeline, plans
from vitok_jax.diffusion import build as diffusion_lib
from vitok_jax.diffusion import noise as noise_lib
from vitok_jax.diffusion import process as process_lib
from vitok_jax.models import bottleneck, cost, dit, dit_cost, shapes, tubelets
from vitok_jax.tasks import accumulation, latent_space, task

QUARTERS = 4


@flax.struct.dataclass
class _Example:
    """What one example brings to a step; every leaf has the batch as its first axis.

    Attributes:
      inputs: `pixels`, or `mean` and `std` of the posterior.
      label: class, negative for none.
      key: of its posterior sample, its time, its noise and whether its label is dropped.
    """

    inputs: dict[str, Shaped[Array, "b ..."]]
    label: Int[Array, "b"]
    key: Key[Array, "b"]


class DitTask(task.Plain):
    """Trains a class-conditional transformer to undo noise on normalised latents.

    Attributes:
      space: the tokenizer's latents.
      grid: tokens of an example.
      process: from latents to noise.
      module: the transformer.
    """

    name = "dit"

    def __init__(self, config: config_lib.DitRunConfig, space: latent_space.LatentSpace):
        """Checks what can be checked without data.

        Args:
          config: the run.
          space: of its tokenizer.

        Raises:
          UsageError: settings do not fit each other, or the pictures do not fit the tokenizer.
        """
        for name, only in (("sizes", ()), ("eval_crop", "center")):
            if getattr(config.data, name) != only:
                raise errors.UsageError(
                    f"data.{name}: {getattr(config.data, name)!r}; a diffusion transformer trains "
                    f"at one size; allowed: {only!r}"
                )
        self.config, self.space = config, space
        kinds = plans.step_kinds(config.data, process_count=1)
        if len(kinds) > 1:
            raise errors.UsageError(
                f"data.train: {config.data.train!r} mixes pictures and videos; a diffusion "
                "transformer trains on either"
            )
        shape = kinds[0].shape
        self._shape_thw = (shape.frames, shape.height, shape.width)
        try:
            self.grid = space.grid(self._shape_thw)
        except errors.UsageError as error:
            raise errors.UsageError(f"data.size: {error}, by {space.path}") from error
        self.process = diffusion_lib.build_process(
            config.diffusion, dimensions=self.grid.tokens * space.channels
        )
        outputs = self.process.output_channels(space.channels)
        self.module = dit.build(config.model, channels=space.channels, outputs=outputs)
        diffusion_lib.build_sampler(config.sampler)
        diffusion_lib.build_guidance(config.sampler, class_dropout=config.model.class_dropout)
        self.process.levels(config.sampler.steps)
        self._cached = latents_lib.is_cache(config.data.train)

    def init(self, key: Key[Array, ""]) -> Any:
        """Fresh parameters, boxed with their logical axis names."""
        return dit.boxed_params(self.module, key)

    def frozen(self) -> Any:
        """The tokenizer's encoder, unless latents come encoded, and its statistics."""
        arrays = self.space.arrays()
        if self._cached:
            del arrays["encoder"]
        return arrays

    def update(
        self, state: task.StateT, batch: task.Batch, frozen: Any
    ) -> tuple[task.StateT, task.Metrics]:
        """One step; see `vitok_jax.tasks.task.Task.update`."""
        examples = _Example(
            inputs={name: batch[name] for name in batch if name != "label"},
            label=batch["label"],
            # A key per example: neither devices nor microbatches change what is drawn.
            key=jax.random.split(state.step_key, batch["label"].shape[0]),
        )

        def loss(params: Any, part: _Example, key: Key[Array, ""]) -> tuple[Array, task.Metrics]:
            del key
            posterior = self.posterior(frozen, part.inputs)
            return self.losses(params, posterior, part.label, part.key, frozen)

        grads, metrics = accumulation.gradients(
            loss, state.params, examples, state.step_key, parts=self.config.optimizer.accumulate
        )
        metrics["grad_norm"] = optax.global_norm(grads)
        metrics["learning_rate"] = state.learning_rate
        return state.apply_gradients(grads), metrics

    @property
    def frames_per_step(self) -> int:
        """Examples in a step: a clip counts once (paper section 4.2, batch 256 of clips)."""
        return self.config.data.batch_size

    def specs(self) -> list[task.BatchSpec]:
        """The one shape of a training batch."""
        batch = self.config.data.batch_size
        inputs: dict[str, tuple[tuple[int, ...], type]] = {
            "pixels": ((batch, *self._shape_thw, 3), np.uint8)
        }
        if self._cached:
            latent = (batch, self.grid.tokens, self.space.channels)
            inputs = {name: (latent, latents_lib.DTYPE) for name in ("mean", "std")}
        inputs["label"] = ((batch,), np.int32)
        return [
            task.BatchSpec(
                {name: shape for name, (shape, _) in inputs.items()},
                {name: np.dtype(kind) for name, (_, kind) in inputs.items()},
            )
        ]

    def batches(self, start_step: int, process_index: int, process_count: int) -> task.Batches:
        """Training examples from a step on."""
        share = {
            "seed": self.config.seed,
            "start_step": start_step,
            "process_index": process_index,
            "process_count": process_count,
        }
        data = self.config.data
        if not self._cached:
            return _Labelled(pipeline.train_batches(data, **share), self.config)
        made_of = latents_lib.Contents(
            encoder_sha256=self.space.sha256,
            shape_thw=self._shape_thw,
            tokens=self.grid.tokens,
            channels=self.space.channels,
        )
        return _Labelled(latents_lib.train_batches(data, made_of, **share), self.config)

    def flops(self, spec: task.BatchSpec) -> float:
        """Two per multiply-accumulate; a backward pass counts twice its forward pass."""
        model = dit_cost.dit_cost(
            self.config.model,
            tokens=self.grid.tokens,
            channels=self.space.channels,
            outputs=self.module.outputs,
        )
        encoder = 0 if self._cached else cost.cost(self.space.model, self._shape_thw).encoder.macs
        return 2.0 * spec.examples * (3 * model.macs + encoder)

    def posterior(self, frozen: Any, inputs: dict[str, Array]) -> bottleneck.Posterior:
        """Posterior of a batch: encoded now, or read."""
        if "pixels" in inputs:
            return self.space.posterior(frozen["encoder"], inputs["pixels"])
        mean, std = (inputs[name].astype(jnp.float32) for name in ("mean", "std"))
        smallest = bottleneck.LOGVAR_RANGE[0]
        return bottleneck.Posterior(mean, jnp.maximum(2.0 * jnp.log(std), smallest))

    def losses(
        self,
        params: Any,
        posterior: bottleneck.Posterior,
        labels_B: Int[Array, "b"],
        keys_B: Key[Array, "b"],
        frozen: Any,
    ) -> tuple[Float[Array, ""], task.Metrics]:
        """The objective of a batch, its terms, and the error from little noise to much.

        Args:
          params: of the transformer.
          posterior: over the batch's latents.
          labels_B: classes, negative for none.
          keys_B: one per example.
          frozen: `mean` and `scale` are read.

        Returns:
          The mean objective and scalars: `mse_noise_1` is the squared error of the quarter of the
          examples with the least noise, `mse_noise_4` that of the quarter with the most.
        """
        split_B4 = jax.vmap(lambda key: jax.random.split(key, 3))(keys_B)
        tokens_BNC = jax.vmap(lambda one, key: one.sample(key))(posterior, split_B4[:, 0])
        x0_BNC = latent_space.normalise(tokens_BNC, frozen["mean"], frozen["scale"])
        noisy = draw(self.process, split_B4[:, 1], x0_BNC)
        seen_B = jax.vmap(lambda key, label: dit.drop_labels(key, label, self.config.model))(
            split_B4[:, 2], labels_B
        )
        output = self.network(params)(noisy.x, self.process.conditioning(noisy.t), seen_B)
        found = self.process.losses(output, x0_BNC, noisy)
        metrics = {name: jnp.mean(term) for name, term in found.terms.items()}
        metrics |= _by_noise(self.process.noise_level(noisy.t), found.terms["mse"])
        # About 0 and 1 when the statistics fit the data.
        metrics["latent_mean"] = jnp.mean(x0_BNC)
        metrics["latent_std"] = jnp.sqrt(jnp.mean(jnp.square(x0_BNC)))
        total = jnp.mean(found.total)
        return total, {"loss": total, **metrics}

    def network(self, params: Any) -> Any:
        """(x_t, conditioning time, label) -> output, as guidance and losses call it."""
        positions_N3 = jnp.asarray(shapes.positions_of(self.grid))

        def apply(
            x_BNC: Float[Array, "b n c"], time_B: Float[Array, "b"], labels_B: Int[Array, "b"]
        ) -> Float[Array, "b n k"]:
            positions = jnp.broadcast_to(positions_N3, (x_BNC.shape[0], *positions_N3.shape))
            latents = tubelets.Latents(tokens=x_BNC, positions=positions)
            found: Any = self.module.apply({"params": params}, latents, time_B, labels_B)
            return found

        return apply


def draw(
    process: process_lib.Process, keys_B: Key[Array, "b"], x0: Float[Array, "b *d"]
) -> process_lib.Noisy:
    """Noise of random strength upon each example, from its own key."""
    noisy = jax.vmap(lambda key, x: process.draw(key, x[None]))(keys_B, x0)
    return jax.tree.map(lambda leaf: leaf[:, 0], noisy)


def draw_at(
    process: process_lib.Process,
    keys_B: Key[Array, "b"],
    x0: Float[Array, "b *d"],
    t: Real[Array, ""],
) -> process_lib.Noisy:
    """Noise of one strength upon each example, from its own key."""
    noise = noise_lib.normal(keys_B, 1, x0.shape[1:])
    t_B = jnp.full(x0.shape[:1], t)
    return process_lib.Noisy(x=process.add_noise(x0, noise, t_B), noise=noise, t=t_B)


def _by_noise(level_B: Float[Array, "b"], mse_B: Float[Array, "b"]) -> task.Metrics:
    """Mean error of each quarter of the examples, in order of their noise."""
    ordered_B = mse_B[jnp.argsort(level_B)]
    quarters = jnp.array_split(ordered_B, min(QUARTERS, len(ordered_B)))
    return {f"mse_noise_{i}": jnp.mean(part) for i, part in enumerate(quarters, start=1)}


class _Labelled:
    """Batches whose labels the model knows.

    Raises:
      UsageError: when a batch holds a label that is no class of the model.
    """

    def __init__(self, batches: Any, config: config_lib.DitRunConfig):
        self._batches, self._config = batches, config
        self.state = batches.state
        self.close = batches.close

    def __iter__(self) -> "_Labelled":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._batches)
        largest = int(batch["label"].max())
        if largest >= self._config.model.num_classes:
            raise errors.UsageError(
                f"data.train {self._config.data.train}: has the label {largest}; allowed: up to "
                f"{self._config.model.num_classes - 1}, model.num_classes less one"
            )
        return batch
