"""A task small enough that a whole run takes a second: a two-layer linear autoencoder."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitok_jax import config as config_lib
from vitok_jax.tasks import accumulation, task

WIDTH = 16

_DATA = config_lib.DataConfig(batch_size=8, sizes=(4,))
_OPTIMIZER = config_lib.OptimizerConfig(learning_rate=1e-2, learning_rate_batch=0, warmup_steps=0)
_TRAINING = config_lib.TrainingConfig(steps=10, log_every=2, eval_every=5)
_CHECKPOINT = config_lib.CheckpointConfig(every=4)
_MESH = config_lib.MeshConfig()


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """Settings of a toy run, with the sections that every trainer has."""

    data: config_lib.DataConfig = _DATA
    optimizer: config_lib.OptimizerConfig = _OPTIMIZER
    training: config_lib.TrainingConfig = _TRAINING
    checkpoint: config_lib.CheckpointConfig = _CHECKPOINT
    mesh: config_lib.MeshConfig = _MESH
    init_from: str = ""
    seed: int = 0


class ToyBatches:
    """Batch t is a pure function of (seed, t); the shape alternates over `sizes`."""

    def __init__(self, config: ToyConfig, start: int, index: int, count: int):
        self._config, self._step, self._index, self._count = config, start, index, count
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        data = self._config.data
        rows = data.sizes[self._step % len(data.sizes)]
        generator = np.random.default_rng((self._config.seed, self._step))
        pixels = generator.integers(0, 256, (data.batch_size, rows, WIDTH), np.uint8)
        self._step += 1
        part = data.batch_size // self._count
        labels = np.zeros(part, np.int32)
        return {"pixels": pixels[self._index * part :][:part], "label": labels}

    def state(self) -> dict[str, Any]:
        return {"step": self._step}

    def close(self) -> None:
        self.closed = True


class ToyTask(task.Plain):
    """Reconstructs noisy rows through a narrow layer."""

    name = "toy"

    def __init__(self, config: ToyConfig):
        self.config = config
        self.frames_per_step = config.data.batch_size
        self.traces = 0

    def init(self, key: Any) -> Any:
        first, second = jax.random.split(key)
        init = nn.initializers.lecun_normal()
        encoder = nn.with_logical_partitioning(init, ("patch", "embed"))(first, (WIDTH, 8))
        decoder = nn.with_logical_partitioning(init, ("embed", "patch"))(second, (8, WIDTH))
        bias = nn.with_logical_partitioning(nn.initializers.zeros, ("patch",))(first, (WIDTH,))
        return {"encoder": {"kernel": encoder}, "decoder": {"kernel": decoder, "bias": bias}}

    def frozen(self) -> Any:
        return {"target": np.eye(WIDTH, dtype=np.float32)}

    def update(self, state: Any, batch: task.Batch, frozen: Any) -> tuple[Any, task.Metrics]:
        self.traces += 1
        noise = jax.random.split(state.step_key, batch["pixels"].shape[0])

        def loss(params: Any, part: Any, key: Any) -> Any:
            pixels, keys = part
            x = pixels.astype(jnp.float32) / 127.5 - 1
            target = x @ frozen["target"]
            x += 0.1 * jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(keys)
            y = x @ params["encoder"]["kernel"] @ params["decoder"]["kernel"]
            value = jnp.mean(jnp.square(y + params["decoder"]["bias"] - target))
            return value, {"loss": value}

        grads, metrics = accumulation.gradients(
            loss,
            state.params,
            (batch["pixels"], noise),
            state.step_key,
            parts=self.config.optimizer.accumulate,
        )
        metrics["grad_norm"] = optax.global_norm(grads)
        return state.apply_gradients(grads), metrics

    def specs(self) -> list[task.BatchSpec]:
        data = self.config.data
        return [
            task.BatchSpec(
                {"pixels": (data.batch_size, rows, WIDTH)}, {"pixels": np.dtype(np.uint8)}
            )
            for rows in data.sizes
        ]

    def batches(self, start_step: int, process_index: int, process_count: int) -> ToyBatches:
        return ToyBatches(self.config, start_step, process_index, process_count)

    def flops(self, spec: task.BatchSpec) -> float:
        return 6.0 * spec.examples * WIDTH * 8 * 2


class CountingEvaluator:
    """Says which steps it saw."""

    name = "toy"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def run(self, state: Any, step: int) -> task.EvaluationResult:
        self.steps.append(step)
        norm = float(optax.global_norm(state.params))
        return task.EvaluationResult({"norm": norm}, {"grid": np.zeros((4, 4, 3), np.uint8)})
