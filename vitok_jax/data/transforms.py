"""Crops, and the resize that brings them to their size.

Resizing is Pillow's bilinear filter with antialiasing: the triangle grows with the scale, as in
torchvision on PIL pictures. That holds for training and evaluation (paper, appendix: bilinear).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vitok_jax.data import decode

ATTEMPTS = 10
UNIFORMS = 2 * ATTEMPTS + 3

# A reduced JPEG must still hold this many pixels per pixel of the result along each side.
_MARGIN = 2.0


@dataclasses.dataclass(frozen=True)
class Box:
    """A part of a picture in its own pixels: edges from the left and from the top."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.bottom - self.top


def random_resized_box(
    size: tuple[int, int],
    uniforms: Float[np.ndarray, " 23"],
    *,
    scale: Sequence[float],
    ratio: Sequence[float],
) -> Box:
    """A box of random area, aspect ratio and place (RandomResizedCrop; Szegedy et al. 2015).

    Ten draws are tried. When none fits, the largest centred box within the ratios is taken.

    Args:
      size: (width, height) of the picture.
      uniforms: `UNIFORMS` numbers in [0, 1); the last is not used here but for the flip.
      scale: smallest and largest share of the area.
      ratio: smallest and largest width / height; its logarithm is uniform.

    Returns:
      A box with whole-numbered edges.
    """
    width, height = size
    for attempt in range(ATTEMPTS):
        area = width * height * (scale[0] + uniforms[2 * attempt] * (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + uniforms[2 * attempt + 1] * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(uniforms[2 * ATTEMPTS] * (width - w + 1))
            top = int(uniforms[2 * ATTEMPTS + 1] * (height - h + 1))
            return Box(left, top, left + w, top + h)
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return Box(left, top, left + w, top + h)


def native_box(
    size: tuple[int, int],
    uniforms: Float[np.ndarray, " 23"],
    *,
    width: int,
    height: int,
    zoom: Sequence[float],
) -> Box:
    """A box of about the result's own size at a random place: detail keeps its scale.

    Args:
      size: (width, height) of the picture.
      uniforms: `UNIFORMS` numbers in [0, 1); the last is not used here but for the flip.
      width: of the result.
      height: of the result.
      zoom: smallest and largest extent of the box over that of the result; its logarithm is
        uniform.

    Returns:
      A box with whole-numbered edges; as large as fits, where the picture is smaller.
    """
    low, high = math.log(zoom[0]), math.log(zoom[1])
    factor = math.exp(low + uniforms[0] * (high - low))
    factor = min(factor, size[0] / width, size[1] / height)
    w, h = max(1, round(width * factor)), max(1, round(height * factor))
    left = int(uniforms[2 * ATTEMPTS] * (size[0] - w + 1))
    top = int(uniforms[2 * ATTEMPTS + 1] * (size[1] - h + 1))
    return Box(left, top, left + w, top + h)


def centre_box(size: tuple[int, int], side: int) -> Box:
    """What is left of a picture when its short side is resized to `side` and the centre cropped.

    The long side is rounded down and the crop's offset rounded as in torchvision's `Resize` and
    `CenterCrop`; resizing the box gives their pixels without making the rest.
    """
    width, height = size
    short = min(size)
    resized = [max(side, int(side * extent / short)) for extent in size]
    left, top = (round((extent - side) / 2.0) for extent in resized)
    x, y = width / resized[0], height / resized[1]
    return Box(left * x, top * y, (left + side) * x, (top + side) * y)


def reduction_for(box: Box, width: int, height: int) -> int:
    """The scale 1 / reduction at which a box may be decoded without losing sharpness."""
    for reduction in decode.REDUCTIONS:
        room = _MARGIN * reduction
        if box.width >= room * width and box.height >= room * height:
            return reduction
    return 1


def resize_box(
    image: Image.Image, box: Box, reduction: int, width: int, height: int
) -> Image.Image:
    """Resizes a part of a picture.

    Args:
      image: the picture, decoded at 1 / reduction.
      box: the part, in pixels of the full picture.
      reduction: of `image`.
      width: of the result.
      height: of the result.

    Returns:
      A picture of width x height.
    """
    right = min(box.right / reduction, image.width)
    bottom = min(box.bottom / reduction, image.height)
    part = (box.left / reduction, box.top / reduction, right, bottom)
    left, top = int(box.left), int(box.top)
    if reduction == 1 and part == (left, top, left + width, top + height):
        return image.crop(part)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=part)


def resize_frame(
    frame_HWC: UInt8[np.ndarray, "h w 3"], box: Box, width: int, height: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resizes a part of a frame of a video; the pixels are those of `resize_box`."""
    left, top = int(box.left), int(box.top)
    if box == Box(left, top, left + width, top + height):
        return frame_HWC[top : top + height, left : left + width]
    return np.asarray(resize_box(Image.fromarray(frame_HWC), box, 1, width, height))
