"""Reconstruction judged over a data set: the same object in the training loop and the binary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from vitok_jax import config as config_lib
from vitok_jax.backbones import structural
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.evaluation import devices, figure, pictures, processes, scoreboard, snapshot
from vitok_jax.metrics import features
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.tasks import task

_LPIPS_SIDE = 16  # VGG16 halves four times before its last feature map


class Batches(Protocol):
    """What an evaluation looks at, as often as wanted; rows whose mask is False do not count."""

    def since(self, pictures: int) -> Iterator[contestants_lib.Batch]:
        """Batches of this process after those that hold so many of its pictures."""


class ReconstructionEvaluator:
    """Scores contestants on the pictures of a data set, each picture exactly once.

    Attributes:
      name: prefix of its scalars in the loop.
    """

    name = "eval"

    def __init__(
        self,
        *,
        batches: Batches,
        contestants: Callable[[Any], Sequence[contestants_lib.Contestant]],
        metrics: Mapping[str, metric_lib.Metric],
        reference: Mapping[str, metric_lib.State],
        grid: int,
    ) -> None:
        """Sets up what does not change between runs.

        Args:
          batches: of this process.
          contestants: what is judged, made from the state that `run` gets.
          metrics: by name.
          reference: the originals' side of set metrics where it comes from a file.
          grid: first pictures of this process that `run` shows.
        """
        self._batches = batches
        self._contestants = contestants
        self._metrics = metrics
        self._reference = reference
        self._grid = grid

    def run(self, state: Any, step: int) -> task.EvaluationResult:
        """Judges the parameters of a state; every process takes part.

        Args:
          state: a `TrainState`.
          step: of the state; plays no part in the result.

        Returns:
          The first contestant's means, and a grid of input, reconstruction and difference.
        """
        del step
        contestants = self._contestants(state)
        kept: list[tuple[np.ndarray, list[np.ndarray]]] = []

        def keep(batch: contestants_lib.Batch, outputs: Sequence[contestants_lib.Output]) -> None:
            for row in np.flatnonzero(batch["mask"])[: self._grid - len(kept)]:
                middle = batch["pixels"].shape[1] // 2
                shown = [
                    pixels[row, middle]
                    for pixels in (batch["pixels"], *(o.pixels for o in outputs))
                ]
                kept.append((shown[0], shown[1:]))

        board = self.judge(contestants, watch=keep)
        finished = board.finish(contestants)
        images = {}
        if kept:
            inputs = [picture for picture, _ in kept]
            outputs = {c.name: [o[i] for _, o in kept] for i, c in enumerate(contestants)}
            captions = [f"{p.shape[1]} x {p.shape[0]}" for p in inputs]
            images["reconstructions"] = figure.grid(inputs, outputs, captions)
        return task.EvaluationResult(
            {k: v for k, v in finished.candidates[0].means.items() if v is not None}, images
        )

    def judge(
        self,
        contestants: Sequence[contestants_lib.Contestant],
        *,
        saved: snapshot.Snapshot | None = None,
        watch: Callable[[contestants_lib.Batch, list[contestants_lib.Output]], None] | None = None,
        progress: int = 0,
    ) -> scoreboard.Scoreboard:
        """Runs all pictures past all contestants.

        Args:
          contestants: in the order of the table.
          saved: where to go on from, and to note how far it came.
          watch: sees every batch and what was made of it.
          progress: pictures over all processes, for a bar; 0 shows none.

        Returns:
          The scores of all processes together.
        """
        board = scoreboard.Scoreboard(self._metrics, [c.name for c in contestants])
        board.fix_reference(self._reference)
        if saved:
            saved.restore(board)
        done = board.pictures_seen()
        with _bar(progress, done * jax.process_count()) as bar:
            for batch in self._batches.since(done):
                outputs = [contestant.reconstruct(batch) for contestant in contestants]
                board.add(batch, outputs)
                if watch:
                    watch(batch, outputs)
                if saved:
                    saved.offer(board)
                bar.update(int(np.sum(batch["mask"])) * jax.process_count())
        board.merge_processes(processes.gather)
        return board


def _bar(total: int, done: int) -> Any:
    from tqdm import tqdm

    hidden = total == 0 or jax.process_index() > 0
    return tqdm(total=total, initial=done, unit="picture", disable=hidden, dynamic_ncols=True)


def for_training(config: config_lib.TokenizerConfig) -> list[task.Evaluator]:
    """The evaluators of a tokenizer's training.

    PSNR and SSIM always, where pictures are large enough; LPIPS where the loss has it, so that a
    training without it needs no such weights.

    Args:
      config: of the run.

    Raises:
      UsageError: the evaluation pictures, the mesh or the weights of a metric cannot be used.
    """
    mesh = mesh_lib.make_mesh(config.mesh)
    rows = devices.Rows(mesh, preset=config.mesh.preset)
    settings = config_lib.EvaluationConfig(seed=config.seed)
    model = contestants_lib.InTraining(config, rows, settings)
    side = config.data.size if config.data.eval_crop == "center" else structural.WINDOW
    names = ["psnr"] + ["ssim"] * (side >= structural.WINDOW)
    if config.loss.lpips and not (config.data.eval_crop == "center" and side < _LPIPS_SIDE):
        names.append("lpips_vgg")
    share = mesh_lib.process_share(mesh)
    if config.data.eval_crop == "none":
        # Pictures of different shapes cannot be rows of one global array: every process takes
        # every picture, and the scoreboard counts each once.
        share = mesh_lib.ProcessShare(0, 1)
    return [
        ReconstructionEvaluator(
            batches=pictures.Pictures(config.data, share=(share.index, share.count)),
            contestants=lambda state: [model.bind(state)],
            metrics=features.metrics(names),
            reference={},
            grid=config.training.eval_grid,
        )
    ]
