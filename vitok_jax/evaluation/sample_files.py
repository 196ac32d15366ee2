"""A folder of samples: written picture by picture, so that a killed run goes on."""

import contextlib
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Int, UInt8
from PIL import Image

from vitok_jax import errors, files
from vitok_jax.evaluation import processes, sample_grid

_PLAN, _PICTURES, _GRID, _ARCHIVE = "sampling.json", "pictures", "grid.png", "samples.npz"
_GRID_ROWS, _GRID_COLUMNS = 20, 10
_FRAME_MS = 125  # of a clip's preview: 8 frames a second

# (labels, seed=, indices=) -> pixels: `vitok_jax.generator.Generator.sample`.
Draw = Callable[..., UInt8[np.ndarray, "n t h w 3"]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is drawn; a folder is only ever continued with an equal plan.

    Attributes:
      num: samples; sample i has the label `classes[i % len(classes)]`.
      classes: labels that take turns.
      seed: of the samples.
      sampler: settings of `SamplerConfig`.
      origin: of the weights.
    """

    num: int
    classes: tuple[int, ...]
    seed: int
    sampler: dict[str, Any]
    origin: dict[str, Any]

    def labels(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Classes of samples, by their numbers."""
        return np.asarray(self.classes, np.int32)[indices % len(self.classes)]


class Folder:
    """The samples of a plan on disk or in a bucket.

    Args:
      path: new, empty, or begun with the same plan.
      plan: what is drawn.
      shape_thw: frames, height and width of a sample.

    Raises:
      UsageError: the folder holds other things, or samples of another plan.
    """

    def __init__(self, path: epath.PathLike, plan: Plan, shape_thw: tuple[int, int, int]) -> None:
        self._path, self._plan, self._shape = epath.Path(path), plan, shape_thw
        self._suffix = ".png" if shape_thw[0] == 1 else ".webp"
        described = json.loads(json.dumps(dataclasses.asdict(plan)))
        note = self._path / _PLAN
        if note.exists():
            _check_same(self._path, json.loads(note.read_text()), described)
        elif self._path.exists() and any(self._path.iterdir()):
            raise errors.UsageError(f"{path}: is not empty; allowed: a new folder")
        # Every process must have looked before one of them writes.
        processes.gather({})
        if jax.process_index() == 0:
            files.write_json(note, described)

    def draw(self, draw: Draw, *, batch_size: int) -> None:
        """Draws and writes every sample that is not there yet; this process its share of them."""
        missing = self._missing()
        processes.gather({})  # every process has looked before one of them writes
        missing = missing[jax.process_index() :: jax.process_count()]
        bar = _bar(self._plan.num, self._plan.num - len(missing) * jax.process_count())
        with bar:
            for start in range(0, len(missing), batch_size):
                indices = missing[start : start + batch_size]
                labels = self._plan.labels(indices)
                pixels_NTHWC = draw(labels, seed=self._plan.seed, indices=indices)
                for index, clip_THWC in zip(indices, pixels_NTHWC, strict=True):
                    files.write_bytes(self._target(int(index)), _encoded(clip_THWC))
                bar.update(len(indices) * jax.process_count())
        processes.gather({})  # the others are done as well

    def finish(self, *, archive: bool) -> str:
        """Writes the grid and perhaps the archive; process 0 does.

        Returns:
          One line that says what is where.
        """
        if jax.process_index() == 0:
            self._write_grid()
            if archive:
                self._write_archive()
        names = f"{_PICTURES}/, {_GRID}" + (f", {_ARCHIVE}" if archive else "")
        return f"{self._path}: {self._plan.num} samples in {names}"

    def _missing(self) -> Int[np.ndarray, " n"]:
        root = self._path / _PICTURES
        there: set[str] = set()
        if root.exists():
            there = {f"{f.name}/{p.name}" for f in root.iterdir() for p in f.iterdir()}
        return np.asarray(
            [i for i in range(self._plan.num) if self._relative(i) not in there], np.int64
        )

    def _relative(self, index: int) -> str:
        label = self._plan.classes[index % len(self._plan.classes)]
        return f"{label:05d}/{index:07d}{self._suffix}"

    def _target(self, index: int) -> epath.Path:
        return self._path / _PICTURES / self._relative(index)

    def _read(self, index: int) -> UInt8[np.ndarray, "t h w 3"]:
        with Image.open(io.BytesIO(self._target(index).read_bytes())) as image:
            frames = []
            for number in range(self._shape[0]):
                image.seek(number)
                frames.append(np.asarray(image.convert("RGB")))
        return np.stack(frames)

    def _write_grid(self) -> None:
        """The first samples of the first classes."""
        count = len(self._plan.classes)
        columns = min(_GRID_COLUMNS, self._plan.num // count)
        if not columns:
            return
        classes = list(self._plan.classes[:_GRID_ROWS])
        numbers = [row + count * column for row in range(len(classes)) for column in range(columns)]
        drawn = sample_grid.draw(np.stack([self._read(i) for i in numbers]), classes)
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG")
        files.write_bytes(self._path / _GRID, buffer.getvalue())

    def _write_archive(self) -> None:
        """ADM's sample archive, sample by sample: 50,000 of 256 px would take 10 GB at once."""
        num = self._plan.num
        shape = (num, *(self._shape if self._shape[0] > 1 else self._shape[1:]), 3)
        labels = io.BytesIO()
        np.save(labels, self._plan.labels(np.arange(num)).astype(np.int64))
        with _whole_file(self._path / _ARCHIVE) as file, zipfile.ZipFile(file, "w") as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(entry, header)
                for index in range(num):
                    entry.write(self._read(index).tobytes())
            archive.writestr("arr_1.npy", labels.getvalue())


def _check_same(path: epath.Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses another plan; where its weights lay does not matter, what they were does."""
    moved = ("checkpoint", "tokenizer")
    pairs = {
        **{key: (before.get(key), now[key]) for key in ("num", "classes", "seed")},
        **{f"sampler.{k}": (before["sampler"].get(k), v) for k, v in now["sampler"].items()},
        **{k: (before["origin"].get(k), v) for k, v in now["origin"].items() if k not in moved},
    }
    for key, (old, new) in pairs.items():
        if old != new:
            raise errors.UsageError(
                f"{path}: holds samples of {key}={old!r}, not {new!r}; allowed: the same "
                "settings, or another folder"
            )


def _encoded(clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> bytes:
    """A PNG file, or a lossless animated WebP of a clip."""
    frames = [Image.fromarray(np.ascontiguousarray(frame)) for frame in clip_THWC]
    buffer = io.BytesIO()
    if len(frames) == 1:
        frames[0].save(buffer, "PNG")
    else:
        frames[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            lossless=True,
            duration=_FRAME_MS,
            # Without it equal neighbours would become one longer frame.
            minimize_size=False,
            allow_mixed=False,
        )
    return buffer.getvalue()


@contextlib.contextmanager
def _whole_file(path: epath.Path) -> Iterator[Any]:
    """A file that appears when it is complete."""
    if "://" in os.fspath(path):
        with path.open("wb") as file:
            yield file
        return
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _bar(total: int, done: int) -> Any:
    from tqdm import tqdm

    hidden = jax.process_index() > 0
    return tqdm(total=total, initial=done, unit="sample", disable=hidden, dynamic_ncols=True)
