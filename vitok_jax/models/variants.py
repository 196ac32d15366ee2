"""Names of model variants, such as `S-B/16`, and what they stand for."""

import dataclasses
import re

from vitok_jax import errors

DEFAULT_CHANNELS = 16
COLOURS = 3


@dataclasses.dataclass(frozen=True)
class Size:
    """One half of the auto-encoder.

    Attributes:
      width: of the residual stream.
      depth: number of blocks.
      heads: of attention; they divide the width.
    """

    width: int
    depth: int
    heads: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class Tubelet:
    """The box of pixels that becomes one token (paper section 2.2).

    Attributes:
      frames: q, its length in time.
      patch: p, its height and width in pixels.
    """

    frames: int
    patch: int

    @property
    def dim(self) -> int:
        """Number of colour values in one tubelet, q * p * p * 3."""
        return self.frames * self.patch**2 * COLOURS


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named model.

    Attributes:
      name: as the user typed it.
      encoder: its encoder's size.
      decoder: its decoder's size.
      tubelet: what one token covers.
      channels: c, latent floats per token.
    """

    name: str
    encoder: Size
    decoder: Size
    tubelet: Tubelet
    channels: int


# Paper table 1; H exists in the authors' first snapshot only.
PAPER_SIZES = {
    "S": Size(768, 6, 12),
    "B": Size(768, 12, 12),
    "L": Size(1152, 24, 16),
    "H": Size(1312, 32, 16),
}
# The follow-up, ViTok-v2, whose L is another model than the paper's.
V2_SIZES = {
    "B": Size(768, 12, 12),
    "L": Size(1024, 24, 16),
    "G": Size(1728, 32, 24),
    "T": Size(3072, 40, 24),
    "E": Size(4096, 48, 32),
}
V2_PREFIX = "v2:"

_FORM = re.compile(r"(?P<v2>v2:)?(?P<encoder>\w+)-(?P<decoder>\w+)/(?P<tubelet>\d+(x\d+){0,2})")
_SIZE = re.compile(r"(?P<letter>[A-Z]+)?(?P<overrides>([wdh]\d+)*)")
_OVERRIDE = re.compile(r"([wdh])(\d+)")
_FIELDS = {"w": "width", "d": "depth", "h": "heads"}


def parse(name: str) -> Variant:
    """Reads the name of a variant.

    The form is `ENCODER-DECODER/TUBELET`. A half is a letter (S, B, L, H; after the prefix `v2:`
    B, L, G, T, E), followed or replaced by overrides of width, depth and heads: `Ld4`,
    `w128d3h4`. A tubelet is `p`, `qxp` or `qxpxc`: q frames, p x p pixels, c latent channels.

    Args:
      name: for example `S-B/16`, `S-B/4x8`, `w128d1h4-w128d3h4/1x8x16`, `v2:Ld4-Ld24/1x16x64`.

    Returns:
      The variant; one frame and 16 channels where the name gives none.

    Raises:
      UsageError: the name has another form, an unknown letter, a zero, or heads that do not divide
        the width.
    """
    match = _FORM.fullmatch(name)
    if not match:
        raise errors.UsageError(
            f"variant {name!r} does not parse; allowed: ENCODER-DECODER/p, /qxp or /qxpxc, "
            "such as S-B/16, S-B/4x8, w128d1h4-w128d3h4/1x8x16 or v2:Ld4-Ld24/1x16x64"
        )
    sizes = V2_SIZES if match["v2"] else PAPER_SIZES
    numbers = [int(number) for number in match["tubelet"].split("x")]
    if min(numbers) < 1:
        raise errors.UsageError(f"variant {name!r}: 0 in the tubelet; allowed: 1 and more")
    if len(numbers) == 1:
        numbers = [1, *numbers]
    channels = numbers[2] if len(numbers) == 3 else DEFAULT_CHANNELS
    return Variant(
        name=name,
        encoder=size_of(name, match["encoder"], sizes),
        decoder=size_of(name, match["decoder"], sizes),
        tubelet=Tubelet(frames=numbers[0], patch=numbers[1]),
        channels=channels,
    )


def size_of(name: str, half: str, sizes: dict[str, Size]) -> Size:
    """Reads one half of a variant's name.

    Args:
      name: of the whole variant, for error messages.
      half: a letter of `sizes`, followed or replaced by overrides: `L`, `Ld4`, `w128d3h4`.
      sizes: what the letters stand for.

    Returns:
      The size.

    Raises:
      UsageError: the half has another form, an unknown letter, a zero, or heads that do not divide
        the width.
    """
    match = _SIZE.fullmatch(half)
    if not match:
        raise errors.UsageError(
            f"variant {name!r}: {half!r} does not parse; allowed: one of {', '.join(sizes)}, with "
            "or without overrides wWIDTH, dDEPTH, hHEADS, such as Bd4 or w128d1h4"
        )
    if match["letter"] and match["letter"] not in sizes:
        raise errors.unknown(f"variant {name!r}, size", match["letter"], sizes)
    overrides = _OVERRIDE.findall(match["overrides"])
    values = {_FIELDS[letter]: int(number) for letter, number in overrides}
    if len(values) < len(overrides):
        raise errors.UsageError(f"variant {name!r}: {half!r} gives w, d or h twice; allowed: once")
    if not match["letter"] and len(values) < len(_FIELDS):
        raise errors.UsageError(
            f"variant {name!r}: {half!r} has no letter, so it needs all of w, d and h"
        )
    base = dataclasses.asdict(sizes[match["letter"]]) if match["letter"] else {}
    size = Size(**{**base, **values})
    if min(size.width, size.depth, size.heads) < 1:
        raise errors.UsageError(f"variant {name!r}: 0 in {half!r}; allowed: 1 and more")
    if size.width % size.heads:
        raise errors.UsageError(
            f"variant {name!r}: {size.heads} heads do not divide width {size.width}; "
            f"allowed: divisors of {size.width}"
        )
    return size
