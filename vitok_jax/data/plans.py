"""Which records each process decodes at each step."""

import dataclasses
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int

from vitok_jax import config, errors
from vitok_jax.data import order, schedule, sources
from vitok_jax.data.record import Medium
from vitok_jax.data.schedule import BatchShape

# Grain wants a length; no run takes so many steps.
_ENDLESS = 2**62


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Which records this process decodes for a step.

    Attributes:
      step: number of the batch.
      shape: of this process's part of it.
      epoch: how often each record was taken before.
      index: numbers of the records.
      mask: False for padding.
    """

    step: int
    shape: BatchShape
    epoch: Int[np.ndarray, " b"]
    index: Int[np.ndarray, " b"]
    mask: Bool[np.ndarray, " b"]


class Collection(Protocol):
    """Records that know which of them are shuffled together."""

    def groups(self) -> tuple[order.Group, ...]:
        """What is shuffled together."""


class TrainingPlans:
    """What a process decodes at each step of a run; indexable without end, picklable.

    Args:
      settings: what `data` says.
      records: the training pictures.
      seed: of sizes, order and mixture.
      process_index: of the process in the job.
      process_count: processes in the job.

    Raises:
      UsageError: a setting is out of range, or the batch does not work out.
    """

    def __init__(
        self,
        settings: config.DataConfig,
        records: Collection,
        seed: int,
        process_index: int,
        process_count: int,
    ) -> None:
        check_process(process_index, process_count)
        check_augmentation(settings)
        self.kinds = step_kinds(settings, process_count)
        self._schedule = schedule.Schedule(self.kinds, seed)
        self._orders = [order.ExampleOrder(g, seed) for g in _streams(settings, records.groups())]
        self._index, self._count = process_index, process_count

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, step: int) -> BatchPlan:
        kind, position = self._schedule.at(step)
        local = _local(kind.shape, self._count)
        first = position + self._index * local.batch
        places = np.arange(first, first + local.batch, dtype=np.int64)
        examples = self._orders[kind.stream].at(places)
        mask = np.ones(local.batch, bool)
        return BatchPlan(step, local, epoch=examples.epoch, index=examples.index, mask=mask)


class EvaluationPlans:
    """What this process decodes in an evaluation; indexable, picklable.

    Args:
      chosen: numbers of the records to show, in order.
      settings: what `data` says.
      frames: of an example.
      process_index: of this process in the job.
      process_count: processes in the job.

    Attributes:
      batch_bytes: of the pixels of a batch of this process, 0 where they differ.
    """

    def __init__(
        self,
        chosen: Int[np.ndarray, " n"],
        settings: config.DataConfig,
        *,
        frames: int,
        process_index: int,
        process_count: int,
    ) -> None:
        self._chosen = chosen
        self._index, self._count = process_index, process_count
        side = settings.size if settings.eval_crop == "center" else 0
        batch = settings.eval_batch_size if side else process_count
        self._shape = BatchShape(batch, frames, side, side)
        self.batch_bytes = self._shape.bytes // process_count

    def __len__(self) -> int:
        if self._shape.height:
            return -(-len(self._chosen) // self._shape.batch)
        return len(range(self._index, len(self._chosen), self._count))

    def __getitem__(self, step: int) -> BatchPlan:
        local = _local(self._shape, self._count)
        first = step * self._shape.batch + self._index * local.batch
        places = np.arange(first, first + local.batch)
        mask = places < len(self._chosen)
        index = self._chosen[np.minimum(places, len(self._chosen) - 1)]
        index = np.where(mask, index, -1)
        return BatchPlan(step, local, epoch=np.zeros_like(index), index=index, mask=mask)


def step_kinds(settings: config.DataConfig, process_count: int) -> tuple[schedule.StepKind, ...]:
    """One kind of step per side and medium, known without opening anything.

    Every side has the pixels of `batch_size` examples of `size`. Where pictures and videos are
    mixed, their weights are shares of the steps.

    Raises:
      UsageError: a batch is not a whole number, or does not divide over the processes.
    """
    kinds = []
    for stream, (medium, share) in enumerate(_media(settings).items()):
        pictures = medium == "picture"
        frames = 1 if pictures else settings.frames
        whole = (settings.image_batch_size if pictures else 0) or settings.batch_size
        for side in settings.sizes or (settings.size,):
            if side < 1:
                raise errors.UsageError(f"data.sizes: {side} is not a size; allowed: 1 and more")
            batch, rest = divmod(whole * settings.size**2, side**2)
            if rest or not batch:
                raise errors.UsageError(
                    f"data.sizes: {side} px would need {whole} * {settings.size}^2 / {side}^2 = "
                    f"{whole * settings.size**2 / side**2:.3g} pictures a step; allowed: a whole "
                    "number, 1 or more"
                )
            check_divides(f"pictures a step at {side} px", batch, process_count)
            kinds.append(schedule.StepKind(stream, BatchShape(batch, frames, side, side), share))
    return tuple(kinds)


def _media(settings: config.DataConfig) -> dict[Medium, float]:
    """What training steps can hold, and how often each comes; single frames count as pictures."""
    if settings.frames == 1:
        return {"picture": 1.0}
    shares: dict[Medium, float] = {}
    parts = sources.parse_mixture(settings.train)
    for part in parts:
        medium = sources.medium_of(part.spec, settings.frames)
        shares[medium] = shares.get(medium, 0.0) + (part.weight or 1.0)
    if len(shares) > 1 and parts[0].weight is None:
        raise errors.UsageError(
            f"data.train {settings.train!r}: pictures and videos; allowed together with weights, "
            "such as clips:train@0.8,photos:train@0.2"
        )
    return shares


def _streams(
    settings: config.DataConfig, groups: tuple[order.Group, ...]
) -> list[tuple[order.Group, ...]]:
    """The groups that feed each stream of `step_kinds`."""
    if settings.frames == 1:
        return [groups]
    for group in groups:
        expected = sources.medium_of(group.name.split(",")[0], settings.frames)
        if group.medium != expected:
            wanted = f"images:{group.name}" if group.medium == "picture" else "data.frames=1"
            raise errors.UsageError(
                f"data.train {group.name!r}: holds {group.medium}s where data.frames="
                f"{settings.frames} wants {expected}s; allowed: {wanted}"
            )
    return [tuple(g for g in groups if g.medium == medium) for medium in _media(settings)]


def check_augmentation(settings: config.DataConfig) -> None:
    """Raises `UsageError` for shares and ranges that no crop can have."""
    for name, (low, high), most in (
        ("crop_scale", settings.crop_scale, 1.0),
        ("crop_ratio", settings.crop_ratio, float("inf")),
        ("crop_zoom", settings.crop_zoom, float("inf")),
    ):
        if not 0 < low <= high <= most:
            raise errors.UsageError(
                f"data.{name}: {(low, high)}; allowed: 0 < smallest <= largest <= {most:g}"
            )
    for name in ("flip", "corrupt_share"):
        if not 0 <= getattr(settings, name) <= 1:
            raise errors.UsageError(f"data.{name}: {getattr(settings, name)}; allowed: 0 to 1")


def check_process(index: int, count: int) -> None:
    """Raises `UsageError` unless a process of that number can exist."""
    if not 0 <= index < count:
        raise errors.UsageError(f"process {index} of {count}: allowed: 0 to {count - 1}")


def check_divides(what: str, batch: int, process_count: int) -> None:
    """Raises `UsageError` unless a batch divides over the processes."""
    if batch % process_count:
        raise errors.UsageError(
            f"{what}: {batch} does not divide over {process_count} processes; allowed: a multiple"
        )


def _local(shape: BatchShape, process_count: int) -> BatchShape:
    return BatchShape(shape.batch // process_count, shape.frames, shape.height, shape.width)
