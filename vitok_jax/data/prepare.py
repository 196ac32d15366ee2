"""Any source of pictures, written as sharded ArrayRecord.

A shard is written under a temporary name, read back and compared, and only then gets its own name;
a note beside it says what it holds. A run that was killed finds the notes and makes the missing
shards. The index, written last, takes up the notes.
"""

import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from etils import epath

from vitok_jax import errors, files
from vitok_jax.data import decode, folder, sources, unreadable, worker
from vitok_jax.data import shards as shard_files
from vitok_jax.data.shards import Plan, Shard

INDEX = "index.json"
_PLAN = ".plan.json"
_LOCK = ".lock"
_SHARD_BYTES = 256 * 2**20
_SAMPLES = 64
_POLL_SECONDS = 0.2

_counter: Any = None


def make_plan(spec: str, *, shards: int, size: int, quality: int) -> tuple[Plan, int]:
    """Looks at a source.

    Args:
      spec: source, or the path of a folder.
      shards: number of files; 0 makes files of about 256 MB.
      size: see `Plan`.
      quality: see `Plan`.

    Returns:
      The plan, and a guess of the bytes it will take, from some of the pictures.

    Raises:
      UsageError: the source is missing or empty, or a number makes no sense.
    """
    if shards < 0 or size < 0 or not 1 <= quality <= 100:
        raise errors.UsageError(
            f"--shards={shards} --size={size} --quality={quality}: allowed: 0 and more, 0 and "
            "more, 1 to 100"
        )
    if spec.partition(":")[0] not in sources.KINDS:
        spec = folder.source_of(spec)
    records = sources.Records(spec)
    count = len(records)
    guess = count * _mean_bytes(records, size, quality)
    shards = min(shards or -(-guess // _SHARD_BYTES), count)
    return Plan(spec, records.fingerprint(), count, shards, size, quality), guess


def _mean_bytes(records: sources.Records, size: int, quality: int) -> int:
    """Mean size of what will be stored of a picture; a video's is at most that of its file."""
    lengths = [0]
    for turn in range(min(_SAMPLES, len(records))):
        entry = records[turn * len(records) // min(_SAMPLES, len(records))]
        if entry.medium == "video":
            lengths.append(len(entry.data))
            continue
        with contextlib.suppress(decode.CorruptImage):
            lengths.append(len(shard_files.stored_form(entry, size=size, quality=quality)))
    return sum(lengths) // max(1, len(lengths) - 1)


def write(
    plan: Plan,
    out: epath.PathLike,
    *,
    workers: int,
    corrupt_share: float,
    room: int,
    progress: Callable[[int], Any],
    produce: "shard_files.Write | None" = None,
) -> list[Shard]:
    """Writes what is still missing of a plan, and the index.

    Args:
      plan: what to write.
      out: folder, local or in a bucket.
      workers: processes.
      corrupt_share: largest share of unreadable pictures.
      room: bytes that the whole plan may take.
      progress: told how many pictures were done since it was last called.
      produce: writes the records of a shard, in this process; None takes the plan's pictures.

    Returns:
      All shards, in order.

    Raises:
      UsageError: the folder holds something else, there is no room, too many pictures are
        unreadable, or a shard does not read back as it was written.
    """
    out = epath.Path(out)
    if (out / INDEX).exists():
        return _finished(plan, out, progress)
    with _lock(out):
        return _write_locked(plan, out, workers, corrupt_share, room, progress, produce)


def _write_locked(
    plan: Plan,
    out: epath.Path,
    workers: int,
    corrupt_share: float,
    room: int,
    progress: Callable[[int], Any],
    produce: "shard_files.Write | None",
) -> list[Shard]:
    _claim(plan, out)
    done = {
        number: shard
        for number in range(plan.shards)
        if (shard := shard_files.read_note(plan, out, number))
    }
    missing = [number for number in range(plan.shards) if number not in done]
    _check_room(out, room * len(missing) // plan.shards)
    log = unreadable.UnreadableLog(records=plan.records, share=corrupt_share, where=plan.input)
    for number, shard in done.items():
        pictures = len(shard_files.shard_range(plan, number))
        log.add(list(shard.left_out), seen=pictures)
        progress(pictures)
    for number, shard in _write_missing(plan, out, missing, workers, progress, produce):
        log.add(list(shard.left_out), seen=len(shard_files.shard_range(plan, number)))
        done[number] = shard
    shards = [done[number] for number in range(plan.shards)]
    _write_index(plan, out, shards)
    return shards


def _write_index(plan: Plan, out: epath.Path, shards: list[Shard]) -> None:
    stored = sum(shard.records for shard in shards)
    index = {
        "plan": dataclasses.asdict(plan),
        "records": stored,
        "left_out": plan.records - stored,
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    files.write_json(out / INDEX, index)
    for number in range(plan.shards):
        shard_files.note_path(plan, out, number).unlink(missing_ok=True)
    (out / _PLAN).unlink(missing_ok=True)


def _finished(plan: Plan, out: epath.Path, progress: Callable[[int], Any]) -> list[Shard]:
    index = json.loads((out / INDEX).read_text())
    if index["plan"] != dataclasses.asdict(plan):
        raise errors.UsageError(
            f"{out}: holds another finished set ({INDEX}); allowed: a new folder"
        )
    progress(plan.records)
    return [shard_files.shard_from(fields) for fields in index["shards"]]


def _claim(plan: Plan, out: epath.Path) -> None:
    """Makes the folder this plan's own, and clears what a killed run left half-written."""
    described = dataclasses.asdict(plan)
    if (out / _PLAN).exists():
        before = json.loads((out / _PLAN).read_text())
        changed = [key for key in described if before.get(key) != described[key]]
        if changed:
            key = changed[0]
            raise errors.UsageError(
                f"{out}: was begun with {key}={before.get(key)!r}, not {described[key]!r}; "
                "allowed: the same settings, or another folder"
            )
    elif any(path.name != _LOCK for path in out.iterdir()):
        raise errors.UsageError(f"{out}: is not empty; allowed: a new folder")
    files.write_json(out / _PLAN, described)
    for leftover in out.glob(".*.tmp"):
        leftover.unlink()


@contextlib.contextmanager
def _lock(out: epath.Path) -> Iterator[None]:
    """Keeps a second run out of a local folder; buckets have no locks."""
    out.mkdir(parents=True, exist_ok=True)
    if "://" in os.fspath(out):
        yield
        return
    with open(out / _LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.UsageError(f"{out}: another run is writing there") from None
        try:
            yield
        finally:
            os.unlink(out / _LOCK)


def _check_room(out: epath.Path, wanted: int) -> None:
    if "://" in os.fspath(out):
        return
    free = shutil.disk_usage(out).free
    if wanted > free:
        raise errors.UsageError(
            f"{out}: about {wanted / 1e9:.2f} GB to write, {free / 1e9:.2f} GB free"
        )


def _write_missing(
    plan: Plan,
    out: epath.Path,
    missing: list[int],
    workers: int,
    progress: Callable[[int], Any],
    produce: "shard_files.Write | None",
) -> Iterator[tuple[int, Shard]]:
    if produce or min(workers, len(missing)) <= 1:
        for number in missing:
            steps = shard_files.write_shard(plan, out, number, produce)
            (shard,) = _count_up(steps, progress)
            yield number, shard
        return
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    count = min(workers, len(missing))
    told = 0
    with futures.ProcessPoolExecutor(count, context, _start_writer, (counter,)) as pool:
        waiting = {pool.submit(_write_one, plan, os.fspath(out), n): n for n in missing}
        try:
            while waiting:
                finished, _ = futures.wait(
                    waiting, _POLL_SECONDS, return_when=futures.FIRST_COMPLETED
                )
                now = counter.value
                progress(now - told)
                told = now
                for future in finished:
                    yield waiting.pop(future), future.result()
            progress(counter.value - told)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _count_up(steps: Iterator[Shard | None], progress: Callable[[int], Any]) -> Iterator[Shard]:
    for shard in steps:
        if shard is None:
            progress(1)
        else:
            yield shard


def _start_writer(counter: Any) -> None:
    global _counter
    _counter = counter
    worker.initialise(0, 0)


def _write_one(plan: Plan, out: str, number: int) -> Shard:
    def add(pictures: int) -> None:
        with _counter.get_lock():
            _counter.value += pictures

    (shard,) = _count_up(shard_files.write_shard(plan, out, number), add)
    return shard
