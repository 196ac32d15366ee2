"""Encodes pictures once, so that a diffusion transformer need not at every step."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Shaped

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import latents, pipeline, prepare, shards, sources, unreadable
from vitok_jax.evaluation import devices as devices_lib
from vitok_jax.tasks import latent_space

_SHARD_BYTES = 256 * 2**20
_OVERHEAD = 256  # bytes of a record beside its numbers, about


@dataclasses.dataclass(frozen=True)
class Plan(shards.Plan):
    """What is written; a folder is only ever continued with an equal plan.

    Attributes:
      contents: `latents.Contents` as JSON.
      clips: `data` settings that say what a clip of a video is, as JSON.
    """

    prefix: ClassVar[str] = "latents"

    contents: dict[str, Any]
    clips: dict[str, Any]


def make_plan(
    space: latent_space.LatentSpace, data: config_lib.DataConfig, *, count: int
) -> tuple[Plan, int]:
    """Looks at a source.

    Args:
      space: of the tokenizer.
      data: `eval` is what is encoded, centre-cropped to `size`.
      count: number of files; 0 makes files of about 256 MB.

    Returns:
      The plan and the bytes that it will take.

    Raises:
      UsageError: the source is missing or empty, or the tokenizer cannot take such pictures.
    """
    records = sources.open_evaluation(data)
    frames = data.frames if records.medium == "video" else 1
    shape_thw = (frames, data.size, data.size)
    grid = space.grid(shape_thw)
    contents = latents.Contents(space.sha256, shape_thw, grid.tokens, space.channels)
    numbers = 2 * latents.FLIPS * grid.tokens * space.channels
    each = numbers * np.dtype(latents.DTYPE).itemsize + _OVERHEAD
    room = len(records) * each
    plan = Plan(
        input=data.eval,
        fingerprint=records.fingerprint(),
        records=len(records),
        shards=min(count or -(-room // _SHARD_BYTES), len(records)),
        size=data.size,
        quality=0,
        contents={**dataclasses.asdict(contents), "shape_thw": list(shape_thw)},
        clips={"stride": data.stride, "fps": data.fps, "eval_clips": data.eval_clips},
    )
    return plan, room


def write(
    plan: Plan,
    out: epath.PathLike,
    space: latent_space.LatentSpace,
    data: config_lib.DataConfig,
    *,
    room: int,
    progress: Callable[[int], Any],
) -> list[shards.Shard]:
    """Writes what is still missing of a plan, and the index, with all devices of this process.

    Args:
      plan: what to write.
      out: folder, local or in a bucket.
      space: of the tokenizer.
      data: as for `make_plan`; `eval_batch_size` and `workers` count.
      room: bytes that the whole plan takes.
      progress: told how many examples were done since it was last called.

    Returns:
      All files, in order.

    Raises:
      UsageError: see `vitok_jax.data.prepare.write`; or a picture is unreadable.
    """
    with contextlib.closing(_Encoder(plan, space, data)) as encoder:
        return prepare.write(
            plan,
            out,
            workers=1,
            corrupt_share=0.0,
            room=room,
            progress=progress,
            produce=lambda _, number, path: shards.write_records(
                plan, number, path, encoder.shard(number)
            ),
        )


class _Encoder:
    """Packed records in order, from any shard on."""

    def __init__(
        self, plan: Plan, space: latent_space.LatentSpace, data: config_lib.DataConfig
    ) -> None:
        self._plan, self._space, self._data = plan, space, data
        fields = {**plan.contents, "shape_thw": tuple(plan.contents["shape_thw"])}
        self._contents = latents.Contents(**fields)
        self._rows = devices_lib.local()
        self._params = self._rows.copy(space.encoder)
        self._jitted = jax.jit(self._both_flips)
        self._next = -1
        self._stream: Generator[bytes, None, None] | None = None

    def shard(self, number: int) -> Iterator[bytes | unreadable.Unreadable]:
        """The records of a shard; the shards of one run follow each other without a new start."""
        wanted = shards.shard_range(self._plan, number)
        if self._stream is None or self._next != wanted.start:
            self.close()
            self._next, self._stream = wanted.start, self._from(wanted.start)
        for _ in wanted:
            self._next += 1
            yield next(self._stream)

    def close(self) -> None:
        """Ends the decoding processes."""
        if self._stream is not None:
            self._stream.close()

    def _from(self, first: int) -> Generator[bytes, None, None]:
        size = self._data.eval_batch_size
        batches = pipeline.eval_batches(self._data)
        stream = batches.since(first // size)
        with contextlib.closing(stream):  # type: ignore[type-var]
            yield from self._encoded(stream, batches, first)

    def _encoded(
        self, stream: Iterator[Any], batches: pipeline.EvalBatches, first: int
    ) -> Iterator[bytes]:
        size = self._data.eval_batch_size
        for number, batch in enumerate(stream, first // size):
            real = batch["index"] >= 0
            if not batch["mask"][real].all():
                raise errors.UsageError(
                    f"{self._plan.input}: {batches.unreadable.pictures[0].name} cannot be read; "
                    "allowed: a set without such (vitok_jax.prepare_data writes one)"
                )
            codes = self._rows.map(
                lambda pixels: self._jitted(self._params, pixels), batch["pixels"], at_most=size
            )
            skip = max(first - number * size, 0)
            for code, label in zip(codes[real][skip:], batch["label"][real][skip:], strict=True):
                record = latents.LatentRecord(code[:, 0], code[:, 1], int(label))
                yield latents.pack(record, self._contents)

    def _both_flips(self, params: Any, pixels_BTHWC: Shaped[Array, "b t h w 3"]) -> Array:
        """Mean and deviation of both flips: [B, flip, 2, N, C]."""

        def encode(pixels: Array) -> Array:
            posterior = self._space.posterior(params, pixels)
            noise = posterior.logvar
            std = jnp.zeros_like(posterior.mean) if noise is None else jnp.exp(0.5 * noise)
            return jnp.stack([posterior.mean, std], axis=1)

        both = jnp.stack([encode(pixels_BTHWC), encode(pixels_BTHWC[..., ::-1, :])], axis=1)
        return both.astype(latents.DTYPE)
