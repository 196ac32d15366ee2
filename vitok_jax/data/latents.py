"""Encoded pictures in ArrayRecord files: posterior mean and deviation of both flips, and a label.

`vitok_jax.prepare_data --tokenizer` writes them. Training then reads in place of pictures what the
frozen encoder would say about them, and still draws a fresh sample of the posterior each time.
"""

import dataclasses
import json
import weakref
from typing import Any

import msgpack
import numpy as np
from jaxtyping import Float

from vitok_jax import config, errors
from vitok_jax.data import array_record_source, crops, order, pipeline, plans, record

PREFIX = "latents:"
DTYPE = np.float16
FLIPS = 2
_FORMAT = "vitok_jax.latent.1"


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the records of a cache were made of, and so their shape.

    Attributes:
      encoder_sha256: of the weights that encoded them.
      shape_thw: frames, height and width of the pixels.
      tokens: of a record.
      channels: of a token.
    """

    encoder_sha256: str
    shape_thw: tuple[int, int, int]
    tokens: int
    channels: int


@dataclasses.dataclass(frozen=True)
class LatentRecord:
    """One encoded picture or clip.

    Attributes:
      mean: of the posterior, float16 [2, N, C]: as it is, and mirrored.
      std: deviation of the posterior, likewise.
      label: class, negative for none.
    """

    mean: Float[np.ndarray, "2 n c"]
    std: Float[np.ndarray, "2 n c"]
    label: int


def is_cache(spec: str) -> bool:
    """Whether a source of `data.train` is a cache of latents."""
    return spec.startswith(PREFIX)


def pack(latent: LatentRecord, contents: Contents) -> bytes:
    """Encodes a record as a MessagePack map that says what it was made of."""
    fields = {
        "format": _FORMAT,
        **dataclasses.asdict(contents),
        "label": latent.label,
        "mean": np.ascontiguousarray(latent.mean, DTYPE).tobytes(),
        "std": np.ascontiguousarray(latent.std, DTYPE).tobytes(),
    }
    return msgpack.packb(fields)


def unpack(packed: bytes) -> tuple[LatentRecord, Contents]:
    """Decodes what `pack` made.

    Raises:
      ValueError: the bytes are something else.
    """
    try:
        fields = msgpack.unpackb(packed)
    except Exception as error:
        # msgpack raises several families of errors on foreign bytes, with no common base.
        raise ValueError(f"not encoded pictures: {error}") from error
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError(f"not encoded pictures: no format {_FORMAT!r} in the record")
    shape = (FLIPS, fields["tokens"], fields["channels"])
    mean, std = (np.frombuffer(fields.pop(name), DTYPE).reshape(shape) for name in ("mean", "std"))
    label = fields.pop("label")
    fields["shape_thw"] = tuple(fields["shape_thw"])
    return LatentRecord(mean, std, label), Contents(**fields)


class LatentSource:
    """The records of a cache, with random access; picklable.

    Args:
      spec: `latents:GLOB`.
      wanted: what the records must have been made of.

    Raises:
      UsageError: there are no such files, they hold something else, or latents of another encoder
        or of pictures of another size.
    """

    def __init__(self, spec: str, wanted: Contents) -> None:
        self.spec = spec
        self._medium: record.Medium = "picture" if wanted.shape_thw[0] == 1 else "video"
        self._files = array_record_source.ArrayRecordFiles(spec.removeprefix(PREFIX), spec)
        try:
            found = unpack(self._files[0])[1]
        except (OSError, ValueError) as error:
            raise errors.UsageError(
                f"{spec}: {error}; allowed: files of vitok_jax.prepare_data --tokenizer"
            ) from error
        for name in ("shape_thw", "channels", "tokens", "encoder_sha256"):
            before, now = getattr(found, name), getattr(wanted, name)
            if before != now:
                raise errors.UsageError(
                    f"{spec}: was made with {name}={before!r}; this run has {now!r}"
                )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> LatentRecord:
        return unpack(self._files[index])[0]

    def groups(self) -> tuple[order.Group, ...]:
        """All of it is shuffled together, as pictures of one source are."""
        return (order.Group(0, len(self), 1.0, name=self.spec, medium=self._medium),)


class LatentLoader:
    """Reads the records of a plan; runs in workers.

    Args:
      source: of the records.
      settings: `flip` counts.
      seed: of the flips, which are those that pictures would have.
    """

    def __init__(self, source: LatentSource, settings: config.DataConfig, seed: int) -> None:
        self._source = source
        self._crop = crops.TrainingCrop(settings, seed)

    def __call__(self, plan: plans.BatchPlan) -> dict[str, Any]:
        """Builds the batch; `report` is a JSON text of its step."""
        mirrored_B = self._crop.mirrored(plan)
        latents = [self._source[int(index)] for index in plan.index]
        pairs = list(zip(latents, mirrored_B.astype(int), strict=True))
        return {
            "mean": np.stack([one.mean[side] for one, side in pairs]),
            "std": np.stack([one.std[side] for one, side in pairs]),
            "label": np.asarray([one.label for one in latents], np.int32),
            "index": plan.index,
            "mask": plan.mask,
            "report": json.dumps({"step": plan.step, "unreadable": []}),
        }


class LatentBatches:
    """Endless training batches of this process; see `train_batches`.

    Attributes:
      step: number of the batch that comes next.
    """

    def __init__(self, batches: Any, start_step: int) -> None:
        self.step = start_step
        self._running = [batches]
        # Grain's iterators complain when they live on until Python takes their modules apart.
        self._close = weakref.finalize(self, _end, self._running)

    def __iter__(self) -> "LatentBatches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._running:
            raise StopIteration
        batch, _ = pipeline.split_report(next(self._running[0]), self.step)
        self.step += 1
        return batch

    def state(self) -> dict[str, int]:
        """What a checkpoint holds: `{"step": number of the next batch}`."""
        return {"step": self.step}

    def close(self) -> None:
        """Ends the workers; no batch comes after that."""
        self._close()


def train_batches(
    settings: config.DataConfig,
    wanted: Contents,
    *,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> LatentBatches:
    """Opens a cache for training: the examples and flips that its pictures would give.

    Args:
      settings: what `data` says; `train` is `latents:GLOB`.
      wanted: what the records must have been made of.
      seed: of order and flips.
      start_step: number of the first batch.
      process_index: of this process in the job.
      process_count: processes in the job.

    Returns:
      Batches of `mean` and `std` [B, N, C], `label`, `index` and `mask`.

    Raises:
      UsageError: see `LatentSource`; or the batch does not divide.
    """
    if settings.crop != "center":
        raise errors.UsageError(
            f"data.crop: {settings.crop!r} cannot come from {settings.train}, which holds centre "
            "crops; allowed: center"
        )
    source = LatentSource(settings.train, wanted)
    steps = plans.TrainingPlans(settings, source, seed, process_index, process_count)
    numbers = 2 * wanted.tokens * wanted.channels * settings.batch_size // process_count
    batches = pipeline.run_plans(
        steps,
        LatentLoader(source, settings, seed),
        start=start_step,
        workers=settings.workers,
        ahead=settings.prefetch,
        batch_bytes=numbers * np.dtype(DTYPE).itemsize,
    )
    return LatentBatches(batches, start_step)


def _end(running: list[Any]) -> None:
    while running:
        running.pop().close()
