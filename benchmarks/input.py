"""Pictures per second of the whole input pipeline beside bare decoding and resizing.

python benchmarks/input.py --input=FOLDER --size=256 --batch_size=64 --workers=2

Both sides read the same files with the same number of processes, in turns within one run. The bare
side opens, decodes and resizes with Pillow and drops the pixels; it knows no order, no random crop,
no batch and no second process to hand it to. The pipeline's figure counts batches as the trainer
gets them. Aim: 90 % of the bare figure.
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


def bare_rate(pool: Pool, numbers: list[int], spec: str, size: int) -> float:
    """Pictures per second of all processes together."""
    parts = [numbers[start : start + 16] for start in range(0, len(numbers), 16)]
    start = time.perf_counter()
    done = sum(pool.imap_unordered(functools.partial(bare, spec=spec, size=size), parts))
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
    settings = config.DataConfig(
        train=spec,
        size=SIZE.value,
        batch_size=BATCH_SIZE.value,
        workers=WORKERS.value,
        prefetch=2,
        decoded_cache=0,
    )
    records = sources.Records(spec)
    count = BATCHES.value * BATCH_SIZE.value
    numbers = [n % len(records) for n in range(count)]
    # What can wait or be under way between turns: see `worker.check_room`.
    waiting = 4 * WORKERS.value
    print(
        f"{spec}: {len(records)} pictures, {SIZE.value} px, {WORKERS.value} workers, "
        f"{TURNS.value} turns of {count} pictures each"
    )
    context = multiprocessing.get_context("spawn")
    rates: list[tuple[float, float]] = []
    with context.Pool(WORKERS.value) as pool, pipeline.train_batches(settings, seed=0) as batches:
        bare_rate(pool, numbers[: 32 * WORKERS.value], spec, SIZE.value)
        for turn in range(TURNS.value):
            ours = pipeline_rate(batches, BATCHES.value, waiting)
            # The workers go on until their queues are full; the bare side must not share with them.
            time.sleep(1.5 * waiting * BATCH_SIZE.value / ours)
            rates.append((ours, bare_rate(pool, numbers, spec, SIZE.value)))
            print(
                f"turn {turn + 1}: pipeline {rates[-1][0]:7.1f} pictures/s, "
                f"bare {rates[-1][1]:7.1f} pictures/s, ratio {rates[-1][0] / rates[-1][1]:.3f}"
            )
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    print(
        f"median: pipeline {ours:.1f} pictures/s, bare {theirs:.1f} pictures/s, ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    cli.run(main)
