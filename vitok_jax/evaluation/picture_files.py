"""Picture and video files in, reconstructed ones out: what the binary `reconstruct` does."""

import dataclasses
import io
import os
from collections.abc import Iterator, Mapping

from etils import epath
from PIL import Image

from vitok_jax import errors, files
from vitok_jax.data import decode, embedded, sources, video
from vitok_jax.data import folder as folder_lib
from vitok_jax.evaluation import long_video, reconstruction, video_files
from vitok_jax.metrics import paired

_SUFFIX = ".png"


@dataclasses.dataclass(frozen=True)
class Input:
    """Pictures and videos to be reconstructed.

    Attributes:
      spec: what the user wrote.
      paths: of the files, by the names that results take after.
    """

    spec: str
    paths: Mapping[str, epath.Path]


def find(path: epath.PathLike) -> Input:
    """The files that a user means.

    Args:
      path: a picture or video file, or a folder: every picture and video below it; or embedded
        files, such as `clips:heldout`.

    Raises:
      UsageError: it does not exist, or the folder holds none.
    """
    spec, root = os.fspath(path), epath.Path(path)
    if root.is_file():
        return Input(spec, {root.name: root})
    if spec.partition(":")[0] in (embedded.EmbeddedPhotos.kind, embedded.EmbeddedClips.kind):
        source = sources.open_source(spec)
        assert isinstance(source, embedded.EmbeddedPhotos)
        return Input(spec, {path.name: epath.Path(path) for path in source.paths})
    if not root.is_dir():
        raise errors.UsageError(f"--input={root}: there is no such file or folder")
    names = sorted(folder_lib.list_files(root, decode.SUFFIXES | video.SUFFIXES))
    if not names:
        raise errors.UsageError(f"--input={root}: holds no pictures and no videos")
    return Input(spec, {name: root / name for name in names})


def reconstruct(
    given: Input,
    path: reconstruction.Reconstructor,
    long_path: long_video.LongVideo,
    *,
    out: epath.PathLike,
) -> Iterator[str]:
    """Reconstructs files one by one, pictures into `OUT/<name>.png`, videos into `OUT/<name>.mp4`.

    Args:
      given: from `find`.
      path: of a tokenizer.
      long_path: its way for videos.
      out: folder; older results of the same names are replaced.

    Yields:
      One line for each file: how it was treated, and the PSNR against the input.

    Raises:
      UsageError: results would replace inputs or each other, or files cannot be read; those that
        can are written first.
    """
    folder = epath.Path(out)
    targets = _targets(given, folder)
    unreadable = []
    for (name, source), target in zip(given.paths.items(), targets, strict=True):
        try:
            if target.suffix == video_files.SUFFIX:
                done = video_files.reconstruct(source, target, long_path)
            else:
                done = _picture(source, target, path)
        except (decode.CorruptImage, video.CorruptVideo, OSError) as error:
            unreadable.append(f"{name} ({' '.join(str(error).split())})")
            continue
        yield f"{target}: {done}"
    if unreadable:
        raise errors.UsageError(
            f"--input={given.spec}: {len(unreadable)} of {len(given.paths)} files cannot be "
            f"read: {', '.join(unreadable)}"
        )


def _picture(source: epath.Path, target: epath.Path, path: reconstruction.Reconstructor) -> str:
    picture_HWC = decode.decode_image(source.read_bytes())
    done_HWC = path.reconstruct(picture_HWC[None, None], draws_B3=None)[0, 0]
    buffer = io.BytesIO()
    Image.fromarray(done_HWC).save(buffer, "PNG")
    files.write_bytes(target, buffer.getvalue())
    psnr = float(paired.psnr().per_image(picture_HWC[None], done_HWC[None])[0])
    return f"{path.route((1, *picture_HWC.shape[:2])).describe()}, PSNR {psnr:.2f} dB"


def _targets(given: Input, folder: epath.Path) -> list[epath.Path]:
    targets = [
        folder / (os.path.splitext(name)[0] + (video_files.SUFFIX if moves else _SUFFIX))
        for name, path in given.paths.items()
        for moves in [video_files.is_video(path)]
    ]
    taken: dict[str, str] = {}
    inputs = {os.path.realpath(path) for path in given.paths.values()}
    for name, target in zip(given.paths, targets, strict=True):
        if os.path.realpath(target) in inputs:
            raise errors.UsageError(f"--out={folder}: {target} would replace an input file")
        if os.fspath(target) in taken:
            raise errors.UsageError(
                f"--input={given.spec}: {taken[os.fspath(target)]} and {name} would both become "
                f"{target}; allowed: one file of a name"
            )
        taken[os.fspath(target)] = name
    return targets
