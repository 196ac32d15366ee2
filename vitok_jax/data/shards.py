"""One ArrayRecord file of pictures: written under another name, read back, then renamed."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from etils import epath
from PIL import Image

from vitok_jax import errors, files
from vitok_jax.data import decode, record, sources, video, video_file
from vitok_jax.data.unreadable import Unreadable

_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is written; a folder is only ever continued with an equal plan.

    Attributes:
      input: source, as in `data.train`.
      fingerprint: of the source.
      records: in the source.
      shards: files.
      size: pictures with a longer short side are reduced to it, pixels; 0 keeps the files.
      quality: of the JPEG files that reduced pictures become.
    """

    prefix: ClassVar[str] = "pictures"

    input: str
    fingerprint: str
    records: int
    shards: int
    size: int
    quality: int


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
      file: its name in the folder.
      records: how many it holds.
      bytes: its size.
      sha256: digest of its records, one after the other.
      left_out: unreadable pictures that are not in it.
    """

    file: str
    records: int
    bytes: int
    sha256: str
    left_out: tuple[Unreadable, ...]


def write_shard(
    plan: Plan, out: epath.PathLike, number: int, write: "Write | None" = None
) -> Iterator[Shard | None]:
    """Writes one shard and the note of it.

    Args:
      plan: what is written.
      out: folder of the files.
      number: of the shard.
      write: puts its records into a file; None takes the pictures of the plan.

    Yields:
      None after every picture, and at last the shard.

    Raises:
      UsageError: it cannot be written, or does not read back as it was written.
    """
    target = epath.Path(out) / shard_name(plan, number)
    local = "://" not in os.fspath(target)
    # Buckets cannot rename: there a finished file is uploaded, which makes it appear whole.
    folder = os.fspath(target.parent) if local else tempfile.mkdtemp()
    temporary = os.path.join(folder, f".{target.name}.{os.getpid()}.tmp")
    shard = None
    try:
        for shard in (write or _write_pictures)(plan, number, temporary):
            if shard is None:
                yield None
        assert shard is not None
        _verify(temporary, shard)
        if local:
            os.replace(temporary, target)
        else:
            epath.Path(temporary).copy(target, overwrite=True)
        note = dataclasses.asdict(shard)
        files.write_json(note_path(plan, out, number), note)
    except (OSError, RuntimeError) as error:
        reason = str(error).partition(";")[0]
        raise errors.UsageError(f"{target}: cannot be written: {reason}") from error
    finally:
        if local and os.path.exists(temporary):
            os.unlink(temporary)
        if not local:
            shutil.rmtree(folder, ignore_errors=True)
    yield shard


def read_note(plan: Plan, out: epath.PathLike, number: int) -> Shard | None:
    """The shard, if it was finished before."""
    target = epath.Path(out) / shard_name(plan, number)
    note = note_path(plan, out, number)
    if not (note.exists() and target.exists()):
        return None
    shard = shard_from(json.loads(note.read_text()))
    return shard if target.stat().length == shard.bytes else None


def shard_from(fields: dict[str, Any]) -> Shard:
    """A shard from what was noted of it in JSON."""
    left_out = tuple(Unreadable(**picture) for picture in fields["left_out"])
    return Shard(**{**fields, "left_out": left_out})


def shard_range(plan: Plan, number: int) -> range:
    """Numbers of the records of the source that go into a shard."""
    return range(number * plan.records // plan.shards, (number + 1) * plan.records // plan.shards)


def shard_name(plan: Plan, number: int) -> str:
    """File name of a shard."""
    return f"{plan.prefix}-{number:05d}-of-{plan.shards:05d}.array_record"


def note_path(plan: Plan, out: epath.PathLike, number: int) -> epath.Path:
    """Where it is noted that a shard is finished."""
    return epath.Path(out) / f".{shard_name(plan, number)}.json"


def stored_form(entry: record.Record, *, size: int, quality: int) -> bytes:
    """The file to store for a picture or video: its own, or one of it reduced to `size`.

    Reduced pictures become JPEG, reduced videos H.264 with a key frame every 16 frames. Decoding
    them here once finds those that break off. The resize is Lanczos with antialias.

    Raises:
      CorruptImage: the picture cannot be decoded.
      CorruptVideo: the video cannot be decoded.
    """
    if entry.medium == "video":
        return _stored_video(entry.data, size)
    image = decode.Picture(entry.data).load(reduction=1)
    short = min(image.size)
    if not size or short <= size:
        return entry.data
    resized = image.resize(_reduced(image.size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    resized.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _stored_video(data: bytes, size: int) -> bytes:
    opened = video.open_video(data)
    if not size or min(opened.size) <= size:
        for _ in opened.every():
            pass
        return data
    reduced = _reduced(opened.size, size)
    with video_file.Writer(reduced) as writer:
        for time, frame_HWC in zip(opened.times, opened.every(), strict=True):
            resized = Image.fromarray(frame_HWC).resize(reduced, Image.Resampling.LANCZOS)
            writer.add(np.asarray(resized), float(time))
    return writer.data


def _reduced(sides: tuple[int, int], size: int) -> tuple[int, int]:
    width, height = (max(size, round(side * size / min(sides))) for side in sides)
    return width, height


# (plan, number, path) -> None after every record, and at last the shard.
Write = Callable[[Plan, int, str], Iterator[Shard | None]]


@functools.lru_cache(maxsize=1)
def _open(spec: str, fingerprint: str) -> sources.Records:
    """The source, listed once per process."""
    records = sources.Records(spec)
    if records.fingerprint() != fingerprint:
        raise errors.UsageError(f"{spec}: changed while it was being prepared")
    return records


def write_records(
    plan: Plan, number: int, path: str, records: Iterator[bytes | Unreadable]
) -> Iterator[Shard | None]:
    """Puts packed records into a file; those that are unreadable are left out and named.

    Yields:
      None after every record, and at last the shard.
    """
    from array_record.python import array_record_module

    digest, count = hashlib.sha256(), 0
    left_out: list[Unreadable] = []
    writer = array_record_module.ArrayRecordWriter(path, _OPTIONS)
    for packed in records:
        if isinstance(packed, Unreadable):
            left_out.append(packed)
        else:
            digest.update(packed)
            writer.write(packed)
            count += 1
        yield None
    writer.close()
    size = os.path.getsize(path)
    yield Shard(shard_name(plan, number), count, size, digest.hexdigest(), tuple(left_out))


def _write_pictures(plan: Plan, number: int, path: str) -> Iterator[Shard | None]:
    yield from write_records(plan, number, path, _pictures(plan, number))


def _pictures(plan: Plan, number: int) -> Iterator[bytes | Unreadable]:
    source = _open(plan.input, plan.fingerprint)
    for index in shard_range(plan, number):
        name = f"record {index}"
        try:
            entry = source[index]
            name = entry.name
            data = stored_form(entry, size=plan.size, quality=plan.quality)
            entry = dataclasses.replace(entry, data=data)
        except (OSError, ValueError) as error:
            yield Unreadable(index, name, str(error) or type(error).__name__)
        else:
            yield record.pack(entry)


def _verify(path: str, shard: Shard) -> None:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(path)
    digest = hashlib.sha256()
    count = reader.num_records()
    for index in range(count):
        digest.update(reader.read([index])[0])
    reader.close()
    if (count, digest.hexdigest()) != (shard.records, shard.sha256):
        raise OSError(f"reads back as {count} records, not as the {shard.records} written")
