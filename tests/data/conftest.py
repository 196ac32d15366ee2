"""Small pictures on the disk, and settings that use them."""

import io
import pathlib
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations import dirfs, local
from PIL import Image

# A busy machine is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def _encode(number: int, *, suffix: str = "PNG", size: tuple[int, int] = (24, 20)) -> bytes:
    """A picture whose pixels tell its number: mean red is `number`, with a gradient in green."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = number
    pixels[..., 1] = np.linspace(0, 255, size[0])[None]
    pixels[..., 2] = np.linspace(0, 255, size[1])[:, None]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Makes numbered picture files; see `_encode`."""
    return _encode


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Eleven numbered pictures in two class folders, of several sizes and kinds."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(11):
        folder = root / ("apples" if number < 4 else "pears")
        folder.mkdir(exist_ok=True)
        suffix = "PNG" if number % 2 else "JPEG"
        size = (24 + number, 20 + 3 * (number % 3))
        name = f"{number:02d}.{'png' if number % 2 else 'jpg'}"
        (folder / name).write_bytes(_encode(number, suffix=suffix, size=size))
    return root


@pytest.fixture()
def broken_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Ten pictures, of which number 3 is no picture and number 7 breaks off."""
    for number in range(10):
        data = _encode(number, suffix="JPEG", size=(64, 48))
        if number == 3:
            data = b"this is no picture"
        if number == 7:
            data = data[: len(data) // 2]
        (tmp_path / f"{number}.jpg").write_bytes(data)
    return tmp_path


class _Bucket(dirfs.DirFileSystem):
    """A folder that behaves like a bucket: addressed by `gs://`, and without renaming."""

    def _join(self, path: str | list[str]) -> str | list[str]:
        if isinstance(path, str):
            path = path.removeprefix("gs://")
        return super()._join(path)

    def mv(self, *_: object, **__: object) -> None:
        raise OSError("a bucket cannot rename")

    rename = move = mv


@pytest.fixture()
def bucket(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket that epath reaches through fsspec."""
    (tmp_path / "bucket").mkdir()
    system = _Bucket(str(tmp_path), fs=local.LocalFileSystem(auto_mkdir=True))
    kind = type(backend.fsspec_backend)
    remote = lambda self, path: system if str(path).startswith("gs://") else system.fs  # noqa: E731
    monkeypatch.setattr(kind, "fs", remote)
    return "gs://bucket"
