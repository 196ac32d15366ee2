"""Pictures or clips per second of the whole input pipeline beside bare decoding and resizing.

python benchmarks/input.py --input=FOLDER --size=256 --batch_size=64 --workers=2
python benchmarks/input.py --input=clips --frames=16 --size=128 --batch_size=4 --workers=2

Both sides read the same files with the same number of processes, in turns within one run. The bare
side opens, decodes and resizes with Pillow and drops the pixels; it knows no order, no random crop,
no batch and no second process to hand it to. The pipeline's figure counts batches as the trainer
gets them. Aim: 90 % of the bare figure.

With --frames above 1 both sides read clips at random places of videos; the bare side seeks, decodes
with PyAV, turns frames to RGB and resizes them with Pillow. Aim: 85 %.
"""

import functools
import io
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
from multiprocessing.pool import Pool

import numpy as np
from absl import flags
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli, config
from vitok_jax.data import pipeline, sources

INPUT = flags.DEFINE_string("input", "photos", "Folder of pictures, or a source.")
SIZE = flags.DEFINE_integer("size", 256, "Side of a crop, pixels.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures per batch.", lower_bound=1)
WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes.", lower_bound=1)
FRAMES = flags.DEFINE_integer("frames", 1, "Of a clip; 1 reads pictures.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 16, "Batches per turn.", lower_bound=1)
TURNS = flags.DEFINE_integer("turns", 5, "Turns of each side.", lower_bound=1)

# Share of a side that the bare crop takes: the mean area of the pipeline's crops is 0.9.
_SIDE = 0.9**0.5


def bare(numbers: list[int], spec: str, size: int) -> int:
    """Decodes and resizes the pictures of these numbers."""
    records = _open(spec)
    for number in numbers:
        image = _image(records, number).convert("RGB")
        width, height = image.width * _SIDE, image.height * _SIDE
        np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=(0, 0, width, height)))
    return len(numbers)


def bare_clips(numbers: list[int], spec: str, size: int, frames: int) -> int:
    """Decodes and resizes clips of these videos, each at a random place."""
    import av

    records, random = _open(spec), np.random.default_rng(numbers[0])
    for number in numbers:
        with av.open(io.BytesIO(records[number % len(records)].data)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            first = int(random.integers(stream.frames - frames + 1))
            due = int(first / stream.average_rate / stream.time_base)
            container.seek(due, stream=stream)
            taken = 0
            for frame in container.decode(stream):
                if frame.pts < due:
                    continue
                image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                box = (0, 0, image.width * _SIDE, image.height * _SIDE)
                np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
                taken += 1
                if taken == frames:
                    break
    return len(numbers)


def bare_rate(pool: Pool, numbers: list[int], spec: str, size: int, frames: int) -> float:
    """Pictures or clips per second of all processes together."""
    one = functools.partial(bare, spec=spec, size=size)
    if frames > 1:
        one = functools.partial(bare_clips, spec=spec, size=size, frames=frames)
    part = 16 if frames == 1 else 2
    parts = [numbers[start : start + part] for start in range(0, len(numbers), part)]
    start = time.perf_counter()
    done = sum(pool.imap_unordered(one, parts))
    return done / (time.perf_counter() - start)


def pipeline_rate(batches: pipeline.TrainBatches, count: int, waiting: int) -> float:
    """Pictures per second as the trainer gets them, after those that already waited."""
    for _ in range(waiting):
        next(batches)
    start = time.perf_counter()
    done = sum(len(next(batches)["label"]) for _ in range(count))
    return done / (time.perf_counter() - start)


@functools.cache
def _open(spec: str) -> sources.Records:
    return sources.Records(spec)


def _image(records: sources.Records, number: int) -> Image.Image:
    return Image.open(io.BytesIO(records[number].data))


def main() -> None:
    """Measures, and prints each turn and the medians."""
    spec = (
        INPUT.value if INPUT.value.partition(":")[0] in sources.KINDS else f"folder:{INPUT.value}"
    )
    frames, what = FRAMES.value, "pictures" if FRAMES.value == 1 else "clips"
    settings = config.DataConfig(
        train=spec,
        frames=frames,
        size=SIZE.value,
        batch_size=BATCH_SIZE.value,
        workers=WORKERS.value,
        prefetch=2,
        decoded_cache=0,
    )
    records = sources.Records(spec)
    length = "" if frames == 1 else f"{frames} x "
    count = BATCHES.value * BATCH_SIZE.value
    numbers = [n % len(records) for n in range(count)] if frames == 1 else list(range(count))
    # What can wait or be under way between turns: see `worker.check_room`.
    waiting = 4 * WORKERS.value
    print(
        f"{spec}: {len(records)} {records.medium}s, {length}{SIZE.value} px, "
        f"{WORKERS.value} workers, {TURNS.value} turns of {count} {what} each"
    )
    context = multiprocessing.get_context("spawn")
    rates: list[tuple[float, float]] = []
    with context.Pool(WORKERS.value) as pool, pipeline.train_batches(settings, seed=0) as batches:
        bare_rate(pool, numbers[: 32 * WORKERS.value], spec, SIZE.value, frames)
        for turn in range(TURNS.value):
            ours = pipeline_rate(batches, BATCHES.value, waiting)
            # The workers go on until their queues are full; the bare side must not share with them.
            time.sleep(1.5 * waiting * BATCH_SIZE.value / ours)
            rates.append((ours, bare_rate(pool, numbers, spec, SIZE.value, frames)))
            print(
                f"turn {turn + 1}: pipeline {rates[-1][0]:7.1f} {what}/s, "
                f"bare {rates[-1][1]:7.1f} {what}/s, ratio {rates[-1][0] / rates[-1][1]:.3f}"
            )
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    print(f"median: pipeline {ours:.1f} {what}/s, bare {theirs:.1f} {what}/s, ratio {ratio:.3f}")


if __name__ == "__main__":
    cli.run(main)
