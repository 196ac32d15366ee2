"""Samples class by class: one row per label, as one picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

_LARGEST, _SMALLEST = 256, 48
_GAP, _TEXT, _MARGIN = 4, 15, 52
_PAPER, _INK = (251, 250, 248), (29, 33, 41)


def labels_of(classes: Sequence[int], columns: int) -> Int[np.ndarray, " n"]:
    """Labels of a grid's samples, row by row."""
    return np.repeat(np.asarray(classes, np.int32), columns)


def draw(
    pixels_NTHWC: UInt8[np.ndarray, "n t h w 3"], classes: Sequence[int]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws samples in rows, with their label at the left.

    Args:
      pixels_NTHWC: equally many samples of each class, class by class; of a clip the middle frame
        is shown.
      classes: label of each row.

    Returns:
      The drawing; small samples are enlarged by a whole factor, large ones reduced.
    """
    frames_NHWC = pixels_NTHWC[:, pixels_NTHWC.shape[1] // 2]
    cells = [_fitted(Image.fromarray(np.ascontiguousarray(frame))) for frame in frames_NHWC]
    columns = len(cells) // len(classes)
    width, height = cells[0].size
    font = ImageFont.load_default(size=_TEXT)
    extent = (
        _MARGIN + columns * (width + _GAP) + _GAP,
        len(classes) * (height + _GAP) + _GAP,
    )
    canvas = Image.new("RGB", extent, _PAPER)
    pen = ImageDraw.Draw(canvas)
    for row, label in enumerate(classes):
        top = _GAP + row * (height + _GAP)
        pen.text((_MARGIN - 8, top + height // 2), str(label), _INK, font=font, anchor="rm")
        for column in range(columns):
            cell = cells[row * columns + column]
            canvas.paste(cell, (_MARGIN + column * (width + _GAP), top))
    return np.asarray(canvas)


def _fitted(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest > _LARGEST:
        sides = [max(1, round(side * _LARGEST / longest)) for side in image.size]
        return image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    factor = -(-_SMALLEST // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
