"""Mean and standard deviation of each latent channel over training pictures.

A diffusion transformer normalises latents by them. They are measured at the end of training and
kept in the metadata of the last checkpoint; `evaluate --write_latent_stats` adds them to others.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from vitok_jax import config as config_lib
from vitok_jax import files
from vitok_jax.data import pipeline
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules
from vitok_jax.tasks import tokenizer
from vitok_jax.training import checkpoint

KEY = "latent_stats"


@dataclasses.dataclass(frozen=True)
class LatentStats:
    """Per-channel moments.

    Attributes:
      mean: of the posterior's mode, per channel.
      std: standard deviation of the posterior's mode, per channel.
      posterior_std: root of the posterior's mean variance, per channel; zeros where the bottleneck
        has none. A sample varies by the root of std^2 + posterior_std^2.
      pictures: that were encoded.
    """

    mean: list[float]
    std: list[float]
    posterior_std: list[float]
    pictures: int


def measure(config: config_lib.TokenizerConfig, params: Any, mesh: Mesh, num: int) -> LatentStats:
    """Encodes training pictures, cropped and flipped as in training at side `data.size`.

    Args:
      config: of the run that made the parameters.
      params: of encoder and decoder, or of the encoder alone under its name.
      mesh: of all processes; every process takes part.
      num: training pictures, from the first epoch's order.

    Returns:
      The same statistics on every process.

    Raises:
      UsageError: the training pictures cannot be read.
    """
    task = tokenizer.TokenizerTask(config)
    shards = placement.batch_shards(mesh)
    size = shards * math.ceil(min(config.data.eval_batch_size, num) / shards)
    data = dataclasses.replace(config.data, sizes=(), batch_size=size, image_batch_size=0)
    share = mesh_lib.process_share(mesh)
    batches = pipeline.train_batches(
        data,
        seed=config.seed,
        start_step=0,
        process_index=share.index,
        process_count=share.count,
    )

    def moments(params: Any, pixels: UInt8[Array, "b t h w 3"], weights: Float[Array, "b"]) -> Any:
        posterior = task.encode(params, tokenizer.normalise(pixels))
        return _moments(posterior.mean, posterior.logvar, weights)

    moments = jax.jit(moments, out_shardings=placement.replicated(mesh))
    merged: _Merged | None = None
    try:
        for first in range(0, num, size):
            rows = np.arange(first, first + size) < num
            local = rows.reshape(share.count, -1)[share.index].astype(np.float32)
            host = {"pixels": next(batches)["pixels"], "weights": local}
            batch = placement.put_batch(host, mesh)
            with rules.use(mesh, config.mesh.preset):
                found = jax.device_get(moments(params, batch["pixels"], batch["weights"]))
            part = _Merged(int(rows.sum()), *(np.asarray(x, np.float64) for x in found))
            merged = part if merged is None else _merge(merged, part)
    finally:
        batches.close()
    assert merged is not None
    return LatentStats(
        mean=merged.mean.tolist(),
        std=np.sqrt(merged.variance).tolist(),
        posterior_std=np.sqrt(merged.posterior_variance).tolist(),
        pictures=merged.pictures,
    )


def write(workdir: epath.PathLike, step: int, stats: LatentStats) -> None:
    """Puts statistics into the metadata of a checkpoint, replacing older ones.

    Raises:
      UsageError: there is no such checkpoint, or its folder cannot be written.
    """
    metadata = checkpoint.read_metadata(workdir, step)
    metadata[KEY] = dataclasses.asdict(stats)
    files.write_json(checkpoint.metadata_path(workdir, step), metadata)


@dataclasses.dataclass(frozen=True)
class _Merged:
    """Moments over a number of pictures, per channel, float64."""

    pictures: int
    mean: np.ndarray
    variance: np.ndarray
    posterior_variance: np.ndarray


def _moments(
    mean_BNC: Float[Array, "b n c"],
    logvar_BNC: Float[Array, "b n c"] | None,
    weights_B: Float[Array, "b"],
) -> tuple[Array, Array, Array]:
    """Mean, variance and mean posterior variance per channel, over the examples that count."""
    count = jnp.sum(weights_B) * mean_BNC.shape[1]

    def average(values_BNC: Array) -> Array:
        return jnp.einsum("b,bnc->c", weights_B, values_BNC, precision="highest") / count

    mean_C = average(mean_BNC)
    variance_C = average(jnp.square(mean_BNC - mean_C))
    noise = jnp.zeros_like(mean_BNC) if logvar_BNC is None else jnp.exp(logvar_BNC)
    return mean_C, variance_C, average(noise)


def _merge(a: _Merged, b: _Merged) -> _Merged:
    """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
    pictures = a.pictures + b.pictures
    share = b.pictures / pictures
    difference = b.mean - a.mean
    return _Merged(
        pictures,
        a.mean + share * difference,
        (1 - share) * a.variance + share * b.variance + share * (1 - share) * difference**2,
        (1 - share) * a.posterior_variance + share * b.posterior_variance,
    )
