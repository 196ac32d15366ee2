"""How every metric moves when pictures get worse: JPEG 90, 50, 10, blur, downsampling.

python benchmarks/degradation.py --input=photos.zip --num=200 --slow_num=8

Prints a Markdown table, one line per metric, and fails where a metric does not get worse from each
degree of a degradation to the next, or calls a degraded picture better than the original.
"""

import dataclasses
import functools
import io
import json
import pathlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image, ImageFilter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli, errors
from vitok_jax.evaluation import columns, results
from vitok_jax.metrics import features
from vitok_jax.metrics import metric as metric_lib

INPUT = flags.DEFINE_string("input", None, "A zip file or folder of pictures.")
SIZE = flags.DEFINE_integer("size", 256, "Side of the centre crop.", lower_bound=16)
NUM = flags.DEFINE_integer("num", 200, "Pictures, evenly spread.", lower_bound=10)
SLOW_NUM = flags.DEFINE_integer("slow_num", 8, "Pictures for metrics on VGG16.", lower_bound=2)
METRICS = flags.DEFINE_list(
    "metrics",
    [
        "psnr", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "dists", "fd_efflite0",
        "kid_efflite0", "is_efflite0", "precision_efflite0", "recall_efflite0",
    ],
    "Names, see docs/metrics.md.",
)  # fmt: skip
JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")

_BATCH = 25
_SLOW = ("lpips_vgg", "dists")
_SUFFIXES = (".jpg", ".jpeg", ".png")
Picture = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Degree:
    """One column of the table.

    Attributes:
      family: kind of degradation; its degrees stand from the weakest to the strongest.
      label: for people.
      apply: makes the worse picture.
    """

    family: str
    label: str
    apply: Callable[[Image.Image], Image.Image]


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _blurred(picture: Image.Image, sigma: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def _downsampled(picture: Image.Image, factor: int) -> Image.Image:
    small = (picture.width // factor, picture.height // factor)
    return picture.resize(small, Image.Resampling.BICUBIC).resize(
        picture.size, Image.Resampling.BICUBIC
    )


DEGREES = (
    *(Degree("jpeg", f"JPEG {q}", functools.partial(_jpeg, quality=q)) for q in (90, 50, 10)),
    *(Degree("blur", f"blur σ {s}", functools.partial(_blurred, sigma=s)) for s in (1, 2, 4)),
    *(Degree("down", f"1/{f} size", functools.partial(_downsampled, factor=f)) for f in (2, 4, 8)),
)


def pictures(path: str, size: int, num: int) -> list[Picture]:
    """Centre crops of so many pictures of a zip file or folder, evenly spread.

    Raises:
      UsageError: there are not so many.
    """
    root = pathlib.Path(path)
    if root.is_dir():
        files: dict[str, Callable[[], bytes]] = {
            str(file): file.read_bytes
            for file in root.rglob("*")
            if file.suffix.lower() in _SUFFIXES
        }
    elif zipfile.is_zipfile(root):
        archive = zipfile.ZipFile(root)
        files = {
            name: functools.partial(archive.read, name)
            for name in archive.namelist()
            if name.lower().endswith(_SUFFIXES)
        }
    else:
        raise errors.UsageError(f"--input={path}: no folder and no zip file")
    if len(files) < num:
        raise errors.UsageError(f"--num={num}: {path} has {len(files)} pictures")
    names = sorted(files)
    chosen = [names[i * len(names) // num] for i in range(num)]
    return [_crop(files[name](), size) for name in chosen]


def _crop(content: bytes, size: int) -> Picture:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    scale = size / min(picture.size)
    wide, high = (max(size, round(side * scale)) for side in picture.size)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def batches(originals: list[Picture]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Originals, and the same pictures at every degree."""
    for start in range(0, len(originals), _BATCH):
        part = [Image.fromarray(picture) for picture in originals[start : start + _BATCH]]
        worse = [np.stack([np.asarray(d.apply(picture)) for picture in part]) for d in DEGREES]
        yield np.stack([np.asarray(picture) for picture in part]), worse


def judge(
    metrics: Mapping[str, metric_lib.Metric], originals: list[Picture]
) -> dict[str, list[float]]:
    """Each metric of the originals against themselves, and of every degree.

    Metrics share an extractor's features only when they are handed a batch one after another.
    """
    sides = 1 + len(DEGREES)
    per_image = {n: [[] for _ in range(sides)] for n, m in metrics.items() if m.compares == "pairs"}
    sets = {n: [m.init()] * sides for n, m in metrics.items() if m.compares == "sets"}
    for reference, worse in batches(originals):
        made, mask = [reference, *worse], np.ones(len(reference), bool)
        for name, kept in per_image.items():
            for values, found in zip(
                kept, metrics[name].per_image_of_each(reference, made), strict=True
            ):
                values.append(found)
        for side, pixels in enumerate(made):
            for name, states in sets.items():
                states[side] = metrics[name].update(states[side], reference, pixels, mask)
    found = {n: [float(np.concatenate(v).mean()) for v in kept] for n, kept in per_image.items()}
    found |= {n: [metrics[n].compute(s)[n] for s in states] for n, states in sets.items()}
    return found


def disorders(metric: metric_lib.Metric, values: list[float]) -> list[str]:
    """Where a metric calls the worse picture better."""
    sign = 1 if metric.better == "lower" else -1
    said = []
    for family in dict.fromkeys(degree.family for degree in DEGREES):
        places = [i for i, degree in enumerate(DEGREES, 1) if degree.family == family]
        for before, after in zip([0, *places], places, strict=False):
            if sign * (values[after] - values[before]) < 0:
                said.append(f"{metric.name}: {DEGREES[after - 1].label} is better than before it")
    return said


def main() -> None:
    """Judges, prints the table, and checks the order."""
    cli.require("input")
    metrics = features.metrics(METRICS.value)
    originals = pictures(INPUT.value, SIZE.value, NUM.value)
    slow = {name: metric for name, metric in metrics.items() if name in _SLOW}
    fast = {name: metric for name, metric in metrics.items() if name not in _SLOW}
    few = originals[:: max(1, NUM.value // SLOW_NUM.value)][: SLOW_NUM.value]
    values = (judge(fast, originals) if fast else {}) | (judge(slow, few) if slow else {})
    counts = {name: len(few if name in slow else originals) for name in metrics}
    wrong = [said for name, metric in metrics.items() for said in disorders(metric, values[name])]
    labels = ["original", *(degree.label for degree in DEGREES)]
    if JSON.value:
        found = {name: dict(zip(labels, values[name], strict=True)) for name in metrics}
        print(json.dumps({"size": SIZE.value, "pictures": counts, "metrics": found}))
    else:
        print(f"| {SIZE.value} px | N | {' | '.join(labels)} |")
        print("|---|---:|" + "---:|" * len(labels))
        for column in columns.columns(metrics):
            arrow = "↑" if column.better == "higher" else "↓"
            cells = [results.shown(column, value) for value in values[column.name]]
            name = f"`{column.name}` {arrow}"
            print(f"| {name} | {counts[column.name]} | {' | '.join(cells)} |")
    if wrong:
        raise errors.UsageError("; ".join(wrong))


if __name__ == "__main__":
    cli.run(main)
