"""One tiny tokenizer and a few small photos for all tests of this room."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import vitok_jax
from tests.evaluation import tiny
from vitok_jax.data import decode, sources


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny.save(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def tokenizer(workdir: pathlib.Path) -> "vitok_jax.tokenizer.Tokenizer":
    """On one device."""
    return vitok_jax.load(workdir, devices=jax.devices()[:1], settings=tiny.settings())


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Parts of the embedded held-out photos: 33x40, twice 32x32, and 72x56 pixels."""
    source = sources.open_source("photos:heldout")
    whole = [decode.decode_image(source[i].data) for i in range(len(source))]
    small = [
        np.asarray(Image.fromarray(p).resize((200, 140), Image.Resampling.LANCZOS)) for p in whole
    ]
    return [small[3][:33, :40], small[1][40:72, 60:92], small[2][50:82, :32], small[0][30:102, :56]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> pathlib.Path:
    """Those photos as files; one has a name that could break a page."""
    root = tmp_path_factory.mktemp("photos")
    for name, picture in zip(["a.png", "b.png", "<b>c & d.png", "e.png"], photos, strict=True):
        Image.fromarray(picture).save(root / name)
    return root
