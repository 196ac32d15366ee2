"""Picture files of any common kind, decoded to 8-bit RGB with Pillow."""

import io
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Image.init()
# MPO opens as JPEG. EPS and the like are left out on purpose: Pillow hands them to an interpreter.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".bmp", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx"),
    )
)
ResultT = TypeVar("ResultT")

REDUCTIONS = (8, 4, 2)

_ORIENTATION = 0x0112


class CorruptImage(ValueError):
    """Bytes that are no picture, or a picture that breaks off, or one with no stated white."""


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a picture at its full size, upright.

    EXIF orientation is applied. Transparent pixels are laid over white. CMYK, grey and palette
    pictures become RGB; 16-bit ones keep their upper 8 bits, rounded. Colour profiles are ignored.
    Of an animation the first frame is taken.

    Args:
      data: the file.

    Returns:
      Pixels in [0, 255].

    Raises:
      CorruptImage: the file cannot be decoded to its end.
    """
    return np.asarray(Picture(data).load(reduction=1))


class Picture:
    """An encoded picture whose header was read.

    Attributes:
      size: (width, height) of the upright picture, pixels.

    Raises:
      CorruptImage: the header cannot be read.
    """

    def __init__(self, data: bytes) -> None:
        self._image: Image.Image = _guarded(lambda: Image.open(io.BytesIO(data), formats=_FORMATS))
        self._orientation = 1
        if self._image.format == "JPEG":
            self._orientation = _guarded(self._image.getexif).get(_ORIENTATION, 1)
            turned = self._orientation in (5, 6, 7, 8)
        else:
            # Other formats may keep the orientation behind the pixels, and cannot be decoded at a
            # reduced scale, so nothing is lost by decoding them now.
            self._image = _guarded(lambda: to_rgb(ImageOps.exif_transpose(self._image)))
            turned = False
        self.size = self._image.size[::-1] if turned else self._image.size

    def load(self, *, reduction: int) -> Image.Image:
        """Decodes, at a scale of 1 / reduction.

        JPEG leaves out frequencies while decoding, which saves most of the time; other pictures
        are decoded in full and averaged over squares. May be called once.

        Args:
          reduction: 1, 2, 4 or 8.

        Returns:
          An upright RGB picture of ceil(width / reduction) x ceil(height / reduction).

        Raises:
          CorruptImage: the pixels cannot be decoded.
        """
        if self._image.format != "JPEG":
            return self._image if reduction == 1 else self._image.reduce(reduction)
        return _guarded(lambda: self._load_jpeg(reduction))

    def _load_jpeg(self, reduction: int) -> Image.Image:
        if reduction > 1:
            wanted = [math.ceil(side / reduction) for side in self._image.size]
            self._image.draft(None, (wanted[0] - 1, wanted[1] - 1))
            if list(self._image.size) != wanted:
                raise CorruptImage(f"cannot be decoded at 1/{reduction}")
        self._image.load()
        if self._orientation != 1:
            return to_rgb(ImageOps.exif_transpose(self._image))
        return to_rgb(self._image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Brings a loaded picture of any mode to 8-bit RGB; see `decode_image`.

    Raises:
      CorruptImage: floating-point pixels, for which no file says what is white.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode == "F":
        raise CorruptImage("floating-point pixels have no stated white")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.int64), 0, 65_535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _guarded(action: Callable[[], ResultT]) -> ResultT:
    try:
        return action()
    except CorruptImage:
        raise
    except UnidentifiedImageError as error:
        raise CorruptImage("no picture of a kind that can be read") from error
    except Exception as error:
        # On damaged bytes Pillow's readers raise nearly anything: OSError, SyntaxError, ValueError,
        # struct.error, KeyError, ZeroDivisionError, DecompressionBombError.
        raise CorruptImage(f"{type(error).__name__}: {error}") from error
