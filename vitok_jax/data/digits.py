"""Handwritten digits that arrive with scikit-learn: 1,797 pictures of 8 x 8, ten classes.

Of E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI (1998). The package
is found on the disk and never imported.
"""

import gzip
import hashlib
import importlib.util
import io
import pathlib

import numpy as np
from PIL import Image

from vitok_jax import errors
from vitok_jax.data.record import Medium, Record

_REQUIREMENT = "scikit-learn==1.9.1"
_FILE = "datasets/data/digits.csv.gz"
_SIDE, _LARGEST = 8, 16
# The file goes writer by writer: its end holds hands that its beginning does not.
_HELDOUT = 360
SPLITS = ("train", "heldout", "all")


class Digits:
    """The digits of one split; no picture is in both `train` and `heldout`.

    Args:
      split: `train` (the first 1,437), `heldout` (the last 360) or `all`.

    Raises:
      UsageError: the split is unknown, or scikit-learn is not installed.
    """

    medium: Medium = "picture"

    def __init__(self, split: str) -> None:
        if split not in SPLITS:
            raise errors.unknown("digits, split", split, SPLITS)
        self.spec = f"digits:{split}"
        with gzip.open(_locate(), "rt") as file:
            table = np.loadtxt(file, np.int32, delimiter=",")
        rows = {"train": table[:-_HELDOUT], "heldout": table[-_HELDOUT:], "all": table}[split]
        self._pixels_NHW = np.round(rows[:, :-1] * (255 / _LARGEST)).astype(np.uint8)
        self._labels_N = rows[:, -1]
        self._first = len(table) - _HELDOUT if split == "heldout" else 0

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, index: int) -> Record:
        pixels_HW = self._pixels_NHW[index].reshape(_SIDE, _SIDE)
        buffer = io.BytesIO()
        Image.fromarray(pixels_HW).save(buffer, "PNG")
        label = int(self._labels_N[index])
        return Record(buffer.getvalue(), label, f"digits/{self._first + index:04d}.png")

    def fingerprint(self) -> str:
        """Digest of pixels and labels in order."""
        content = self._pixels_NHW.tobytes() + self._labels_N.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


def _locate() -> pathlib.Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise errors.UsageError(f"digits: come with {_REQUIREMENT}, which is not installed")
    path = pathlib.Path(spec.origin).parent / _FILE
    if not path.is_file():
        raise errors.UsageError(f"digits: {path} is missing; {_REQUIREMENT} holds it")
    return path
