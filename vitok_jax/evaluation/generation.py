"""Judges a diffusion transformer in training: held-out error by noise, samples, distances."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import devices, drawer, pictures, processes, sample_grid
from vitok_jax.metrics import features
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules
from vitok_jax.tasks import dit, latent_space, task

_LEVELS = 5


class SampleJudge:
    """Distances between samples and real pictures, whose features are taken once.

    Attributes:
      num: samples and pictures.
      metrics: by name.
      real: this process's part of the pictures, in batches.
    """

    def __init__(
        self, data: config_lib.DataConfig, names: Sequence[str], num: int, share: tuple[int, int]
    ) -> None:
        """Opens the pictures.

        Args:
          data: `eval` and its crop and size count.
          names: of metrics.
          num: samples, and real pictures spread evenly over the source; 0: as many as it has.
          share: which part of them this process judges, of how many.

        Raises:
          UsageError: a metric compares pairs or its weights are missing, or there are fewer
            pictures.
        """
        self.metrics = features.metrics(names)
        paired = [name for name, metric in self.metrics.items() if metric.compares == "pairs"]
        if paired:
            raise errors.UsageError(
                f"metrics: {paired[0]} compares pairs and samples have no originals; allowed: "
                "metrics of sets"
            )
        self._share = share
        self.real = pictures.Pictures(dataclasses.replace(data, eval_num=num), share=share)
        if self.real.num < num:
            raise errors.UsageError(
                f"{data.eval}: has {self.real.num} pictures to compare {num} samples with; "
                f"allowed: up to {self.real.num} samples"
            )
        self.num = num or self.real.num

    @property
    def indices(self) -> np.ndarray:
        """Numbers of the samples that this process draws; as many on every process."""
        index, count = self._share
        part = -(-self.num // count)
        return np.arange(index * part, (index + 1) * part)

    def judge(self, samples_NTHWC: UInt8[np.ndarray, "n t h w 3"]) -> dict[str, float]:
        """The metrics of samples, one for each of `indices`; every process takes part."""
        mask = self.indices < self.num
        found: dict[str, float] = {}
        for name, metric in self.metrics.items():
            state = metric.merge(metric.init(), self._reference[name])
            # In parts of the size that the real pictures had: features are compiled for it.
            size = min(64, len(mask))
            for start in range(0, len(mask), size):
                rows = slice(start, start + size)
                state = metric.update(
                    state, None, _framed(samples_NTHWC[rows]), mask[rows], index=self.indices[rows]
                )
            parts = processes.gather(dict(state))
            merged: metric_lib.State = functools.reduce(metric.merge, parts)
            found |= metric.compute(merged)
        return found

    @functools.cached_property
    def _reference(self) -> Mapping[str, metric_lib.State]:
        states = {name: metric.init() for name, metric in self.metrics.items()}
        for batch in self.real:
            for name, metric in self.metrics.items():
                states[name] = metric.update(
                    states[name],
                    _framed(batch["pixels"]),
                    None,
                    batch["mask"],
                    index=batch["index"],
                )
        return states


class SampleEvaluator:
    """Draws a grid class by class, and judges samples where `generation.num` is not 0."""

    name = "samples"

    def __init__(
        self,
        config: config_lib.DitRunConfig,
        draws: drawer.Drawer,
        decoder: Any,
        judge: SampleJudge | None,
    ) -> None:
        """Takes what draws, the decoder's parameters on the mesh, and what judges."""
        self._settings, self._columns = config.generation, config.training.eval_grid
        self._classes = list(range(min(config.generation.grid_classes, config.model.num_classes)))
        self._num_classes = config.model.num_classes
        self._draws, self._decoder, self._judge = draws, decoder, judge

    def run(self, state: Any, step: int) -> task.EvaluationResult:
        """Draws with the averaged weights where the run keeps an average; always equal seeds."""
        del step
        weights = drawer.Weights({**state.params, **state.ema_params}, self._decoder)
        images, scalars = {}, {}
        if self._columns:
            labels = sample_grid.labels_of(self._classes, self._columns)
            pixels = self._draw(weights, np.arange(len(labels)), labels)
            images["grid"] = sample_grid.draw(pixels, self._classes)
        if self._judge is not None:
            indices = self._judge.indices
            scalars = self._judge.judge(self._draw(weights, indices, indices % self._num_classes))
        return task.EvaluationResult(scalars, images)

    def _draw(self, weights: drawer.Weights, indices: np.ndarray, labels: np.ndarray) -> np.ndarray:
        seed, guidance = self._settings.seed, self._draws.guidance
        return self._draws.draw(weights, indices, labels, seed=seed, guidance=guidance)


class HeldOutEvaluator:
    """Squared error on held-out pictures at fixed noise levels, with noise fixed by their numbers.

    Also says how well the tokenizer's statistics fit: `latent_condition` is the ratio of the
    largest to the smallest eigenvalue of the covariance of normalised latent channels.
    """

    name = "heldout"

    def __init__(
        self, config: config_lib.DitRunConfig, job: dit.DitTask, mesh: jax.sharding.Mesh
    ) -> None:
        """Opens the pictures and puts the encoder on the mesh.

        Raises:
          UsageError: the pictures cannot be used.
        """
        share = mesh_lib.process_share(mesh)
        self._pictures = pictures.Pictures(config.data, share=(share.index, share.count))
        self._job, self._mesh, self._preset = job, mesh, config.mesh.preset
        self._frozen = jax.device_put(job.space.arrays(), placement.replicated(mesh))
        self._times = job.process.levels(_LEVELS)[:-1]
        self._sums = jax.jit(self._batch_sums, out_shardings=placement.replicated(mesh))

    def run(self, state: Any, step: int) -> task.EvaluationResult:
        """The error at each level, most noise first, and the latents' moments."""
        del step
        params = {**state.params, **state.ema_params}
        total: Any = None
        for batch in self._pictures:
            host = {name: batch[name] for name in ("pixels", "label", "index", "mask")}
            host["index"] = host["index"].astype(np.int32)
            sent = placement.put_batch(host, self._mesh)
            with rules.use(self._mesh, self._preset):
                found = jax.device_get(self._sums(params, self._frozen, sent))
            found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)
            total = found if total is None else jax.tree.map(np.add, total, found)
        shares = np.asarray(self._job.process.noise_level(self._times))
        errors_L = total["errors"] / total["examples"]
        scalars = {f"mse_at_{s:.2f}": float(e) for s, e in zip(shares, errors_L, strict=True)}
        count = total["examples"] * self._job.grid.tokens
        mean_C = total["first"] / count
        covariance = total["second"] / count - np.outer(mean_C, mean_C)
        values = np.linalg.eigvalsh(covariance)
        scalars["mse"] = float(errors_L.mean())
        scalars["latent_std"] = float(np.sqrt(np.trace(covariance) / len(values)))
        scalars["latent_condition"] = float(values[-1] / max(values[0], np.finfo(float).tiny))
        return task.EvaluationResult(scalars)

    def _batch_sums(self, params: Any, frozen: Any, batch: Any) -> dict[str, Any]:
        job, mask_B = self._job, batch["mask"].astype(jnp.float32)
        keys_B = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch["index"])
        posterior = job.posterior(frozen, {"pixels": batch["pixels"]})
        tokens_BNC = jax.vmap(lambda one, key: one.sample(key))(posterior, keys_B)
        x0_BNC = latent_space.normalise(tokens_BNC, frozen["mean"], frozen["scale"])
        x0_BNC = jnp.where(mask_B[:, None, None] > 0, x0_BNC, 0.0)
        labels_B = jnp.where(batch["label"] < 0, job.config.model.num_classes, batch["label"])
        network = job.network(params)

        def error(t: Any) -> Any:
            noisy = dit.draw_at(job.process, keys_B, x0_BNC, t)
            output = network(noisy.x, job.process.conditioning(noisy.t), labels_B)
            return jnp.sum(mask_B * job.process.losses(output, x0_BNC, noisy).terms["mse"])

        flat = {"preferred_element_type": jnp.float32, "precision": "highest"}
        return {
            "errors": jax.lax.map(error, self._times),
            "examples": jnp.sum(mask_B),
            "first": jnp.sum(x0_BNC, axis=(0, 1)),
            "second": jnp.einsum("bnc,bnd->cd", x0_BNC, x0_BNC, **flat),
        }


def for_training(
    config: config_lib.DitRunConfig, job: dit.DitTask, decoder: Any
) -> list[task.Evaluator]:
    """The evaluators of a run.

    Args:
      config: of the run.
      job: its task.
      decoder: parameters of the tokenizer's decoder.

    Raises:
      UsageError: the evaluation pictures, the mesh or the weights of a metric cannot be used.
    """
    mesh = mesh_lib.make_mesh(config.mesh)
    rows = devices.Rows(mesh, preset=config.mesh.preset)
    settings = config.generation
    shards = placement.batch_shards(mesh)
    if config.data.eval_batch_size % shards:
        raise errors.UsageError(
            f"data.eval_batch_size: {config.data.eval_batch_size} does not split evenly over "
            f"{shards} devices; allowed: multiples of {shards}"
        )
    share = mesh_lib.process_share(mesh)
    judge = None
    if settings.num:
        parts = (share.index, share.count)
        judge = SampleJudge(config.data, settings.metrics, settings.num, parts)
    batch = max(settings.batch_size // share.count, rows.shards)
    draws = drawer.Drawer(job, config.sampler, rows, batch_size=batch)
    return [
        HeldOutEvaluator(config, job, mesh),
        SampleEvaluator(config, draws, rows.copy(jax.tree.map(np.asarray, decoder)), judge),
    ]


def _framed(pixels_NTHWC: UInt8[np.ndarray, "n t h w 3"]) -> UInt8[np.ndarray, "n *t h w 3"]:
    """Pictures without their axis of frames; clips as they are."""
    return pixels_NTHWC[:, 0] if pixels_NTHWC.shape[1] == 1 else pixels_NTHWC
