"""Batches for training and evaluation: plans, decoded by Grain's workers.

Batch t of a training run is a pure function of (seed, t). The only state is the number of the next
batch, as its consumer counts them: what workers hold in advance is not part of it. Processes of a
job take consecutive slices of the same batch, so neither workers nor processes nor devices change
what is trained on.
"""

import json
import os
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from vitok_jax import config
from vitok_jax.data import clips, crops, loader, plans, sources, store, worker
from vitok_jax.data.schedule import BatchShape
from vitok_jax.data.unreadable import Unreadable, UnreadableLog

Batch = dict[str, np.ndarray]

# Arrays below this many bytes travel through the queue, not through shared memory.
_SMALL = 2**16


def train_batches(
    settings: config.DataConfig,
    *,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "TrainBatches":
    """Opens the training pictures.

    Args:
      settings: what `data` says.
      seed: of order, sizes and augmentation.
      start_step: number of the first batch; any number costs the same.
      process_index: of this process in the job.
      process_count: processes in the job; each gets its slice of every batch.

    Returns:
      An endless iterator; decoding starts at once, in `settings.workers` processes.

    Raises:
      UsageError: data are missing, or sizes or the batch do not work out.
    """
    return TrainBatches(settings, seed, start_step, process_index, process_count)


def eval_batches(
    settings: config.DataConfig,
    *,
    process_index: int = 0,
    process_count: int = 1,
    workers: int | None = None,
) -> "EvalBatches":
    """Opens the evaluation pictures.

    Args:
      settings: what `data` says; `eval`, `eval_batch_size`, `eval_crop`, `eval_num` count.
      process_index: of this process in the job.
      process_count: processes in the job.
      workers: in place of `settings.workers`.

    Returns:
      Batches that hold every picture once; iterate as often as wanted.

    Raises:
      UsageError: data are missing, or the batch does not divide.
    """
    count = settings.workers if workers is None else workers
    return EvalBatches(settings, process_index, process_count, count)


class TrainBatches:
    """Endless training batches of this process; see `train_batches`.

    Each batch is a dict of arrays: `pixels` uint8 [B, T, H, W, 3], `label` int32 [B] (-1: none),
    `index` int64 [B] (the record shown, counted over all sources), `mask` bool [B], all True.

    Attributes:
      step: number of the batch that comes next.
      plans: which records each batch holds, by step.
      fingerprint: of the records.
      unreadable: pictures that could not be read so far.
    """

    def __init__(
        self,
        settings: config.DataConfig,
        seed: int,
        start_step: int,
        process_index: int,
        process_count: int,
    ) -> None:
        records = sources.Records(settings.train)
        self.plans = plans.TrainingPlans(settings, records, seed, process_index, process_count)
        self.fingerprint = records.fingerprint()
        self.step = start_step
        self.unreadable = UnreadableLog(
            records=len(records), share=settings.corrupt_share, where=settings.train
        )
        build = loader.BatchLoader(
            store.PictureStore(
                records,
                settings.decoded_cache,
                clips.ClipStore(clips.Timing.of(settings), settings.decoded_videos),
            ),
            crops.TrainingCrop(settings, seed),
            on_unreadable="replace",
        )
        batches = run_plans(
            self.plans,
            build,
            start=start_step,
            workers=settings.workers,
            ahead=settings.prefetch,
            batch_bytes=max(shape.bytes for shape in self.shapes()) // process_count,
        )
        # Emptied by `close`, and at the end of a program that never closes: Grain's iterators
        # complain when they live on until Python takes their modules apart.
        self._running = [batches]
        self._close = weakref.finalize(self, _end, self._running)

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        if not self._running:
            raise StopIteration
        batch, unreadable = split_report(next(self._running[0]), self.step)
        self.unreadable.add(unreadable, seen=len(batch["index"]))
        self.step += 1
        return batch

    def state(self) -> dict[str, int]:
        """What a checkpoint holds: `{"step": number of the next batch}`."""
        return {"step": self.step}

    def shapes(self) -> list[BatchShape]:
        """Shapes of all batches that can come, over all processes, without repetition."""
        return list(dict.fromkeys(kind.shape for kind in self.plans.kinds))

    def close(self) -> None:
        """Ends the workers; no batch comes after that."""
        self._close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EvalBatches:
    """Evaluation batches of this process; see `eval_batches`.

    With `eval_crop="center"` every process gets the same number of batches of the same shape, the
    last one padded with `mask` False. With `eval_crop="none"` a batch is one whole picture
    [1, 1, H, W, 3], and process p gets pictures p, p + count, p + 2 count and so on. A picture
    that cannot be read has `mask` False: an average over the mask leaves it out.

    Attributes:
      num: pictures over all processes.
      fingerprint: of the records.
      unreadable: pictures that could not be read.
    """

    def __init__(
        self, settings: config.DataConfig, process_index: int, process_count: int, workers: int
    ) -> None:
        plans.check_process(process_index, process_count)
        if settings.eval_crop == "center":
            plans.check_divides("data.eval_batch_size", settings.eval_batch_size, process_count)
        records = sources.open_evaluation(settings)
        frames = settings.frames if records.medium == "video" else 1
        available = len(records)
        self.num = min(settings.eval_num or available, available)
        self.fingerprint = records.fingerprint()
        self.unreadable = UnreadableLog(
            records=available, share=settings.corrupt_share, where=settings.eval
        )
        # Evenly spread, so that a part of a set sorted by class still holds all classes.
        chosen = np.arange(self.num, dtype=np.int64) * available // self.num
        self._plans = plans.EvaluationPlans(
            chosen,
            settings,
            frames=frames,
            process_index=process_index,
            process_count=process_count,
        )
        crop = crops.CentreCrop() if settings.eval_crop == "center" else crops.WholePicture()
        kept = store.PictureStore(records, 0, clips.ClipStore(clips.Timing.of(settings), 0))
        self._build = loader.BatchLoader(kept, crop, on_unreadable="mask")
        self._workers = min(workers, len(self._plans))
        self._ahead = settings.prefetch

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[Batch]:
        return self.since(0)

    def since(self, start: int) -> Iterator[Batch]:
        """Batches from number `start` on; those before it are not read."""
        batches = run_plans(
            self._plans,
            self._build,
            start=start,
            workers=self._workers,
            ahead=self._ahead,
            batch_bytes=self._plans.batch_bytes,
        )
        try:
            for step, item in enumerate(batches, start):
                batch, unreadable = split_report(item, step)
                self.unreadable.add(unreadable, seen=len(batch["index"]))
                yield batch
        finally:
            batches.close()


def run_plans(
    steps: Any, build: Any, *, start: int, workers: int, ahead: int, batch_bytes: int
) -> Any:
    """Grain's iterator over built plans, from number `start` on, with its workers started.

    Args:
      steps: the plans; `[step]` and `len`.
      build: a plan in, a batch out; runs in the workers.
      start: first plan.
      workers: processes; 0 builds in threads of this one.
      ahead: finished batches that may wait, per worker.
      batch_bytes: of the largest batch, 0 when not known.

    Returns:
      An iterator in the order of the plans, with `close`.

    Raises:
      UsageError: the batches do not fit into shared memory.
    """
    import grain

    batches = grain.MapDataset.source(steps).map(build).slice(slice(start, None))
    if not workers:
        threads = min(ahead, os.cpu_count() or 1)
        return iter(batches.to_iter_dataset(grain.ReadOptions(threads, ahead)))
    if not flags.FLAGS.is_parsed():
        # Grain asks for its flags when it starts workers, also in a program that has none.
        flags.FLAGS.mark_as_parsed()
    # As many again wait on the trainer's side of the queue.
    queued = max(1, ahead // 2)
    worker.check_room(batch_bytes, workers=workers, ahead=queued)
    # No threads inside a worker: each would hold a batch.
    lazy = grain.experimental.WithOptionsIterDataset(
        batches.to_iter_dataset(grain.ReadOptions(0, 0)),
        grain.experimental.DatasetOptions(min_shm_size=_SMALL),
    )
    worker.free_at_exit()
    options = grain.MultiprocessingOptions(workers, queued)
    iterator = iter(lazy.mp_prefetch(options, worker_init_fn=worker.initialise))
    with worker.lean_start(workers):
        iterator.get_state()  # makes the parts of the iterator, one per worker
        iterator.start_prefetch()
    return iterator


def split_report(item: dict[str, Any], step: int) -> tuple[Batch, list[Unreadable]]:
    """Takes the worker's report out of a built batch and checks that it is the one expected."""
    report = json.loads(item.pop("report"))
    if report["step"] != step:
        raise RuntimeError(f"batch {report['step']} came where {step} was due")
    return item, [Unreadable(*entry) for entry in report["unreadable"]]


def _end(running: list[Any]) -> None:
    while running:
        running.pop().close()
