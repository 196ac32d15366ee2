"""The Python interface of generation: the latent space of a tokenizer, and a trained transformer.

Example:
  >>> import numpy as np
  >>> from vitok_jax import generator
  >>> made = generator.load(workdir)
  >>> made.sample(labels=np.array([3, 7]), seed=0).shape
  (2, 1, 16, 16, 3)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Int, UInt8

from vitok_jax import config as config_lib
from vitok_jax import errors, tokenizer
from vitok_jax.data import latents
from vitok_jax.diffusion import guidance as guidance_lib
from vitok_jax.evaluation import devices as devices_lib
from vitok_jax.evaluation import drawer
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.tasks import dit, latent_space
from vitok_jax.training import checkpoint, latent_stats

NOTE = "tokenizer"


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained diffusion transformer with the decoder of its tokenizer; see `load`.

    Attributes:
      config: settings of the run, with the sampler in force.
      task: of the run.
      weights: on the devices.
      drawer: draws with them.
      origin: path, step and kind of the weights, and the tokenizer; JSON.
    """

    config: config_lib.DitRunConfig
    task: dit.DitTask
    weights: drawer.Weights
    drawer: drawer.Drawer
    origin: dict[str, Any]

    def sample(
        self,
        labels: Int[np.ndarray, " n"],
        *,
        seed: int,
        indices: Int[np.ndarray, " n"] | None = None,
        scale: float | None = None,
    ) -> UInt8[np.ndarray, "n t h w 3"]:
        """Draws samples.

        Args:
          labels: class of each.
          seed: of the set.
          indices: numbers of the samples in the set; None counts from 0.
          scale: of guidance, in place of the sampler's; the interval and the rest stay.

        Returns:
          Pixels; a picture is a clip of one frame.

        Raises:
          UsageError: a label is no class of the model, or guidance needs label dropout.
        """
        check_classes(labels.tolist(), self.config.model.num_classes)
        numbers = np.arange(len(labels)) if indices is None else indices
        guided = self.drawer.guidance
        if scale is not None:
            guided = self.guidance(scale)
        return self.drawer.draw(self.weights, numbers, labels, seed=seed, guidance=guided)

    def guidance(self, scale: float) -> guidance_lib.Guidance:
        """The sampler's guidance with another scale; equal shapes, so nothing compiles anew.

        Raises:
          UsageError: the network never saw an example without label.
        """
        dropout = self.config.model.class_dropout
        if not dropout and scale != 1:
            raise errors.UsageError(
                f"guidance {scale}: the network was trained with class_dropout=0; allowed: 1"
            )
        settings = self.config.sampler
        return guidance_lib.Guidance(
            scale=scale,
            low=settings.low,
            high=settings.high,
            rescale=settings.rescale,
            channels=settings.channels,
        )


def load(
    path: epath.PathLike,
    *,
    sampler: config_lib.SamplerConfig | None = None,
    tokenizer_path: str = "",
    step: int | None = None,
    weights: checkpoint.Weights = "auto",
    devices: Sequence[jax.Device] | None = None,
    batch_size: int = 64,
) -> Generator:
    """Loads a diffusion transformer and the tokenizer that its latents belong to.

    Args:
      path: workdir of `train_dit`.
      sampler: how to draw; None as in the run's settings.
      tokenizer_path: where the tokenizer is now; empty where it was in training. Its decoder may
        have been trained further, its encoder must be the same.
      step: which checkpoint; None takes the newest.
      weights: `raw` as trained, `ema` averaged, `auto` averaged where the run kept an average.
      devices: that compute; None takes all of this process.
      batch_size: samples of one call over all of them.

    Raises:
      UsageError: there is no such checkpoint, the tokenizer is another, or the sampler does not
        fit the run.
    """
    step = checkpoint.latest_step(path) if step is None else step
    metadata = read_metadata(path, step)
    config = config_lib.from_config_dict(
        config_lib.DitRunConfig, metadata["config"], f"{path}: config"
    )
    if sampler is not None:
        config = dataclasses.replace(config, sampler=sampler)
    whole = tokenizer.load(tokenizer_path or metadata[NOTE]["path"], devices=devices)
    space = space_of(whole, noted=metadata[NOTE])
    space.check(metadata[NOTE], str(path))
    job = dit.DitTask(config, space)
    rows = devices_lib.local(devices)
    draws = drawer.Drawer(job, config.sampler, rows, batch_size=batch_size)
    params = rows.copy(checkpoint.read_params(path, step=step, weights=weights))
    kind = ("ema" if config.optimizer.ema else "raw") if weights == "auto" else weights
    return Generator(
        config=config,
        task=job,
        weights=drawer.Weights(dit=params, decoder=whole.params["decoder"]),
        drawer=draws,
        origin={
            "checkpoint": str(path),
            "step": step,
            "weights": kind,
            "tokenizer": whole.path,
            "encoder_sha256": space.sha256,
            "decoder_sha256": tokenizer.sha256_of({"decoder": whole.params["decoder"]}),
        },
    )


def read_metadata(path: epath.PathLike, step: int | None) -> dict[str, Any]:
    """What a checkpoint of `train_dit` says of itself.

    Raises:
      UsageError: there is none, or it is of another kind of training.
    """
    metadata = checkpoint.read_metadata(path, step)
    if metadata.get("task") != dit.DitTask.name or NOTE not in metadata:
        raise errors.UsageError(
            f"{path}: is a workdir of task {metadata.get('task')!r}; allowed: one of "
            f"vitok_jax.train_dit ({dit.DitTask.name!r})"
        )
    return metadata


def space_for_training(
    loaded: tokenizer.Tokenizer, config: config_lib.DitRunConfig, workdir: epath.PathLike
) -> latent_space.LatentSpace:
    """The space of a run, which is that of its checkpoints where there are any.

    Latents of a tokenizer whose format holds no statistics (an exported folder, released weights)
    are measured on `training.latent_stats_num` training pictures, unless that is 0 or `data.train`
    is a cache.

    Args:
      loaded: the tokenizer.
      config: of the run.
      workdir: of the run; need not exist.

    Raises:
      UsageError: there are no statistics, or the workdir's run was in another space.
    """
    noted = None
    if checkpoint.steps(workdir):
        noted = read_metadata(workdir, None)[NOTE]
    num = config.training.latent_stats_num
    measurable = num and not latents.is_cache(config.data.train)
    if loaded.latent_stats is None and noted is None and measurable:
        settings = config_lib.TokenizerConfig(
            model=loaded.config.model,
            data=config.data,
            loss=config_lib.LossConfig(lpips=0.0),
            mesh=config.mesh,
            seed=config.seed,
        )
        mesh = mesh_lib.make_mesh(config.mesh)
        encoder = jax.tree.map(np.asarray, loaded.params["encoder"])
        found = latent_stats.measure(settings, {"encoder": encoder}, mesh, num)
        loaded.latent_stats = dataclasses.asdict(found)
    space = space_of(loaded, noted=noted)
    if noted is not None:
        space.check(noted, str(workdir))
    return space


def space_of(
    loaded: tokenizer.Tokenizer, *, noted: Mapping[str, Any] | None = None
) -> latent_space.LatentSpace:
    """The latent space of a tokenizer, whatever format it came in.

    Args:
      loaded: the tokenizer.
      noted: what a checkpoint of `train_dit` says of its space; its statistics count where the
        tokenizer has none.

    Raises:
      UsageError: its latents were never measured.
    """
    encoder, stats = loaded.params["encoder"], loaded.latent_stats
    if stats is None and noted is not None:
        none = [0.0] * len(noted["scale"])
        stats = {"mean": noted["mean"], "std": noted["scale"], "posterior_std": none}
    return latent_space.build(
        loaded.config.model,
        encoder,
        stats,
        path=loaded.path,
        sha256=tokenizer.sha256_of({"encoder": encoder}),
    )


def check_classes(labels: Sequence[int], num_classes: int) -> None:
    """Sees that a model knows some labels.

    Raises:
      UsageError: it does not know one of them.
    """
    strange = sorted({label for label in labels if not 0 <= label < num_classes})
    if strange:
        raise errors.UsageError(
            f"class {strange[0]}: unknown to this model; allowed: 0 to {num_classes - 1}"
        )
