"""`reconstructions.png`: input, reconstruction and difference side by side, labelled."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

GAIN = 4
_CELL = 256
_GAP = 10
_TEXT = 15
_LINE = 24
_PAPER, _INK, _SOFT = (251, 250, 248), (29, 33, 41), (93, 100, 114)


def difference(a: UInt8[np.ndarray, "*b"], b: UInt8[np.ndarray, "*b"]) -> UInt8[np.ndarray, "*b"]:
    """`GAIN` times the absolute difference, clipped."""
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16))
    return np.minimum(GAIN * apart, 255).astype(np.uint8)


def grid(
    inputs: Sequence[UInt8[np.ndarray, "_h _w 3"]],
    outputs: Mapping[str, Sequence[UInt8[np.ndarray, "_h _w 3"]]],
    captions: Sequence[str],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws one row per picture.

    Args:
      inputs: pictures of any sizes; those larger than a cell are reduced to fit.
      outputs: reconstructions of each candidate, by its name. The difference to the first stands
        in the last column.
      captions: one line of text below each row.

    Returns:
      The drawing.
    """
    names = list(outputs)
    titles = ["input", *names, f"{names[0]}: difference x{GAIN}"]
    font = ImageFont.load_default(size=_TEXT)
    rows = [
        [picture, *(outputs[name][i] for name in names), difference(picture, outputs[names[0]][i])]
        for i, picture in enumerate(inputs)
    ]
    heights = [_fitted(row[0]).height + _LINE + _GAP for row in rows]
    width = _GAP + len(titles) * (_CELL + _GAP)
    canvas = Image.new("RGB", (width, _LINE + 2 * _GAP + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(canvas)
    lefts = [_GAP + i * (_CELL + _GAP) for i in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        pen.text((left, _GAP), _clipped(title, font, _CELL), _INK, font=font)
    top = _LINE + _GAP
    for row, caption, height in zip(rows, captions, heights, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            canvas.paste(_fitted(cell), (left, top))
        pen.text(
            (_GAP, top + height - _LINE - _GAP + 3),
            _clipped(caption, font, width - 2 * _GAP),
            _SOFT,
            font=font,
        )
        top += height
    return np.asarray(canvas)


def _fitted(picture_HWC: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """The picture within a cell: reduced with antialiasing, or enlarged by whole factors."""
    image = Image.fromarray(np.ascontiguousarray(picture_HWC))
    longest = max(image.size)
    if longest > _CELL:
        sides = [max(1, round(side * _CELL / longest)) for side in image.size]
        return image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    factor = _CELL // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _clipped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
