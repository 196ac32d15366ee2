"""Pictures of an evaluation: whole ones grouped by shape, and single ones by number."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import UInt8

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import clips, crops, loader, pipeline, plans, schedule, sources, store
from vitok_jax.evaluation import contestants

_READERS = 16
# Below so many pictures, starting worker processes takes longer than decoding.
_FEW = 256


def data_config(
    spec: str, settings: config_lib.EvaluationConfig, trained: config_lib.DataConfig
) -> config_lib.DataConfig:
    """The evaluation's settings of data: every picture must be readable.

    Args:
      spec: of the source.
      settings: of the evaluation.
      trained: of the training; gives the size where the settings have none.
    """
    return dataclasses.replace(
        trained,
        eval=spec,
        size=settings.size or trained.size,
        frames=settings.frames or trained.frames,
        eval_clips=settings.clips or trained.eval_clips,
        eval_batch_size=settings.batch_size,
        eval_crop=settings.crop,
        eval_num=settings.num,
        workers=min(trained.workers, os.cpu_count() or 1),
        corrupt_share=0.0,
    )


class Pictures:
    """One part of the pictures of `data.eval`, in batches of one shape each.

    Attributes:
      num: pictures of all parts.
      fingerprint: of the source.
      at_once: pictures that fit into one array: a batch of all parts, 1 where shapes differ.
    """

    def __init__(self, data: config_lib.DataConfig, *, share: tuple[int, int]) -> None:
        """Opens the source.

        Args:
          data: `eval`, `eval_crop`, `eval_num`, `eval_batch_size`, `size` count.
          share: which part, of how many.

        Raises:
          UsageError: there are no pictures, or the batch does not divide.
        """
        index, count = share
        available = len(sources.open_evaluation(data))
        # Rows that nothing fills are computed all the same: a batch is no larger than the set.
        filled = -(-min(data.eval_num or available, available) // count) * count
        data = dataclasses.replace(data, eval_batch_size=min(data.eval_batch_size, filled))
        batches = pipeline.eval_batches(
            data,
            process_index=index,
            process_count=count,
            workers=0 if (data.eval_num or available) <= _FEW else data.workers,
        )
        self.num = batches.num
        self.fingerprint = batches.fingerprint
        self._batches = batches
        self._whole = data.eval_crop == "none"
        self.at_once = 1 if self._whole else data.eval_batch_size
        self._rows = data.eval_batch_size // count
        self._at_most = data.eval_batch_size

    def __iter__(self) -> Iterator[contestants.Batch]:
        return self.since(0)

    def since(self, pictures: int) -> Iterator[contestants.Batch]:
        """Batches after so many pictures of this part, which are not read again.

        Args:
          pictures: of the batches that came before, all readable.
        """
        if self._whole:
            return iter(Grouped(self._batches.since(pictures), at_most=self._at_most))
        return self._batches.since(-(-pictures // self._rows))


def open_checked(data: config_lib.DataConfig) -> Pictures:
    """This process's part of exactly as many pictures as were asked for.

    Raises:
      UsageError: there are none, or fewer.
    """
    available = len(sources.open_evaluation(data))
    if data.eval_num > available:
        raise errors.UsageError(
            f"--num: {data.eval_num} is more than {data.eval} has; allowed: up to {available}"
        )
    return Pictures(data, share=(jax.process_index(), jax.process_count()))


class Grouped:
    """Whole pictures, consecutive ones of one shape as one batch.

    Batches have 1, 2, 4 ... pictures, filled up with a mask of False, so that a shape is compiled
    for few batch sizes only. Pictures that could not be read are left out.
    """

    def __init__(self, batches: Iterable[contestants.Batch], *, at_most: int) -> None:
        """Takes batches of any sizes, and the largest batch wanted."""
        self._batches = batches
        self._at_most = at_most

    def __iter__(self) -> Iterator[contestants.Batch]:
        """The groups, in the order of the pictures."""
        group: list[dict[str, np.ndarray]] = []
        for batch in self._batches:
            for row in np.flatnonzero(batch["mask"]):
                picture = {name: array[row] for name, array in batch.items()}
                same = not group or group[0]["pixels"].shape == picture["pixels"].shape
                if not same or len(group) == self._at_most:
                    yield _stacked(group)
                    group = []
                group.append(picture)
        if group:
            yield _stacked(group)


def _stacked(group: list[dict[str, np.ndarray]]) -> contestants.Batch:
    size = 1 << (len(group) - 1).bit_length()
    rows = group + group[-1:] * (size - len(group))
    batch = {name: np.stack([row[name] for row in rows]) for name in group[0]}
    batch["mask"] = np.arange(size) < len(group)
    return batch


class Reader:
    """The same pictures as `pipeline.eval_batches` gives, by their numbers."""

    def __init__(self, data: config_lib.DataConfig) -> None:
        """Opens `data.eval`.

        Raises:
          UsageError: it is missing or empty.
        """
        self.records = sources.open_evaluation(data)
        side = data.size if data.eval_crop == "center" else 0
        frames = data.frames if self.records.medium == "video" else 1
        self._shape = (frames, side, side)
        videos = clips.ClipStore(clips.Timing.of(data), 0)
        self._load = loader.BatchLoader(
            store.PictureStore(self.records, 0, videos),
            crops.CentreCrop() if side else crops.WholePicture(),
            on_unreadable="mask",
        )

    def name(self, index: int) -> str:
        """File name of a picture."""
        return self.records[index].name

    def names(self, indices: Sequence[int]) -> list[str]:
        """File names of several pictures."""
        # Threads, because a record in a bucket is read to learn its name.
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self.name, indices))

    def batch(self, indices: Sequence[int]) -> contestants.Batch:
        """Several pictures; one at a time where they are whole.

        Raises:
          UsageError: a picture cannot be read.
        """
        index = np.asarray(indices, np.int64)
        shape = schedule.BatchShape(len(index), *self._shape)
        plan = plans.BatchPlan(0, shape, np.zeros_like(index), index, np.ones(len(index), bool))
        batch = self._load(plan)
        del batch["report"]
        if not batch["mask"].all():
            bad = int(index[np.argmin(batch["mask"])])
            raise errors.UsageError(f"{self.records.spec}: {self.name(bad)} cannot be read")
        return batch

    def clip(self, index: int) -> UInt8[np.ndarray, "t h w 3"]:
        """One picture or clip; see `batch`."""
        return self.batch([index])["pixels"][0]
