"""How often an independent classifier sees in a sample the class that was asked for."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from vitok_jax import errors
from vitok_jax.data import decode, sources, transforms


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What the classifier saw.

    Attributes:
      agreement: share of samples that it gives the class that was asked for.
      by_class: that share for each class.
      accuracy: share of held-out real pictures that it reads rightly.
      samples: how many were read.
      heldout: real pictures that it was tested on.
      trained_on: real pictures that it learned from.
    """

    agreement: float
    by_class: dict[int, float]
    accuracy: float
    samples: int
    heldout: int
    trained_on: int


def measure(samples: str, *, train: str, heldout: str, size: int) -> Agreement:
    """Trains a support vector machine on real pictures and lets it read samples.

    Args:
      samples: folder whose first folders are classes by number, as `vitok_jax.sample` writes them.
      train: source of labelled pictures to learn from.
      heldout: source of labelled pictures to be tested on.
      size: side to which the centre of each picture is brought.

    Raises:
      UsageError: a source cannot be read, has no labels, or a folder's name is no class.
    """
    from sklearn import svm

    learned, real = (_labelled(sources.Records(spec), size) for spec in (train, heldout))
    records = sources.Records(f"folder:{samples}")
    pixels = _pixels(records, size)
    asked = np.asarray([_class_of(records[i].name, samples) for i in range(len(records))])
    classifier = svm.SVC()
    classifier.fit(*learned)
    right = classifier.predict(pixels) == asked
    return Agreement(
        agreement=float(right.mean()),
        by_class={int(c): float(right[asked == c].mean()) for c in np.unique(asked)},
        accuracy=float((classifier.predict(real[0]) == real[1]).mean()),
        samples=len(asked),
        heldout=len(real[1]),
        trained_on=len(learned[1]),
    )


def to_json(found: Agreement) -> dict[str, Any]:
    """The result as JSON."""
    return dataclasses.asdict(found)


def _labelled(
    records: sources.Records, size: int
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    labels = np.asarray([records[i].label for i in range(len(records))])
    if labels.min() < 0:
        raise errors.UsageError(f"{records.spec}: has pictures without a label")
    return _pixels(records, size), labels


def _pixels(records: sources.Records, size: int) -> Float[np.ndarray, "n d"]:
    """Pixels of the centres in [0, 1], one row per picture."""
    rows = []
    for index in range(len(records)):
        image: Image.Image = decode.Picture(records[index].data).load(reduction=1)
        box = transforms.centre_box(image.size, size)
        rows.append(np.asarray(transforms.resize_box(image, box, 1, size, size)).reshape(-1))
    return np.stack(rows).astype(np.float32) / 255


def _class_of(name: str, samples: str) -> int:
    folder = name.partition("/")[0]
    if "/" not in name or not folder.isdecimal():
        raise errors.UsageError(
            f"{samples}: {name} is in no folder of a class; allowed: <class number>/<picture>"
        )
    return int(folder)
