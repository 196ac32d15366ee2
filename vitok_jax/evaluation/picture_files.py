"""Picture files in, reconstructed picture files out: what the binary `reconstruct` does."""

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence

from etils import epath
from PIL import Image

from vitok_jax import errors, files
from vitok_jax.data import decode, sources
from vitok_jax.evaluation import reconstruction
from vitok_jax.metrics import paired

_SUFFIX = ".png"


@dataclasses.dataclass(frozen=True)
class Input:
    """Pictures to be reconstructed.

    Attributes:
      root: the folder that holds them all.
      names: paths relative to it.
    """

    root: epath.Path
    names: Sequence[str]


def find(path: epath.PathLike) -> Input:
    """The picture files that a user means.

    Args:
      path: a picture file, or a folder: every picture below it.

    Raises:
      UsageError: it does not exist, or the folder holds no picture.
    """
    root = epath.Path(path)
    if root.is_file():
        return Input(root.parent, [root.name])
    if not root.is_dir():
        raise errors.UsageError(f"--input={root}: there is no such file or folder")
    folder = sources.open_source(f"folder:{root}")
    return Input(root, [folder[index].name for index in range(len(folder))])


def reconstruct(
    given: Input, path: reconstruction.Reconstructor, *, out: epath.PathLike
) -> Iterator[str]:
    """Reconstructs pictures one by one into `OUT/<name>.png`.

    Args:
      given: from `find`.
      path: of a tokenizer.
      out: folder; older results of the same names are replaced.

    Yields:
      One line for each picture: how it was treated, and the PSNR against the input.

    Raises:
      UsageError: results would replace inputs or each other, or pictures cannot be read; those
        that can are written first.
    """
    folder = epath.Path(out)
    targets = _targets(given, folder)
    unreadable = []
    for name, target in zip(given.names, targets, strict=True):
        try:
            picture_HWC = decode.decode_image((given.root / name).read_bytes())
        except (decode.CorruptImage, OSError) as error:
            unreadable.append(f"{name} ({' '.join(str(error).split())})")
            continue
        done_HWC = path.reconstruct(picture_HWC[None, None], draws_B3=None)[0, 0]
        buffer = io.BytesIO()
        Image.fromarray(done_HWC).save(buffer, "PNG")
        files.write_bytes(target, buffer.getvalue())
        psnr = float(paired.psnr().per_image(picture_HWC[None], done_HWC[None])[0])
        route = path.route((1, *picture_HWC.shape[:2])).describe()
        yield f"{target}: {route}, PSNR {psnr:.2f} dB"
    if unreadable:
        raise errors.UsageError(
            f"--input={given.root}: {len(unreadable)} of {len(given.names)} pictures cannot be "
            f"read: {', '.join(unreadable)}"
        )


def _targets(given: Input, folder: epath.Path) -> list[epath.Path]:
    targets = [folder / (os.path.splitext(name)[0] + _SUFFIX) for name in given.names]
    taken: dict[str, str] = {}
    inputs = {os.path.realpath(given.root / name) for name in given.names}
    for name, target in zip(given.names, targets, strict=True):
        if os.path.realpath(target) in inputs:
            raise errors.UsageError(f"--out={folder}: {target} would replace an input picture")
        if os.fspath(target) in taken:
            raise errors.UsageError(
                f"--input={given.root}: {taken[os.fspath(target)]} and {name} would both become "
                f"{target}; allowed: one picture of a name"
            )
        taken[os.fspath(target)] = name
    return targets
