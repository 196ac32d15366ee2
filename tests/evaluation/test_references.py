"""Reference statistics: written once, reused, and the same figure as without them."""

import json

import numpy as np
import pytest

from tests import required
from tests.evaluation import tiny
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import folders, pictures, references
from vitok_jax.metrics import features

NAMES = ("fd_efflite0",)
SETTINGS = tiny.settings(metrics=NAMES, crop="center", size=32, batch_size=4)
DATA = config_lib.DataConfig(workers=0)


@pytest.fixture(scope="module", autouse=True)
def _weights():
    required.weights("efflite0")


@pytest.fixture(scope="module")
def others(tmp_path_factory, photos):
    """As many other pictures."""
    from PIL import Image

    root = tmp_path_factory.mktemp("others")
    for i in range(4):
        Image.fromarray(photos[3][8 * i : 8 * i + 32, 5 * i : 5 * i + 32]).save(root / f"{i}.png")
    return root


def judge(paths, reference, out):
    found = folders.compare(
        [str(p) for p in paths], reference=reference, out=out, settings=SETTINGS
    )
    return found, json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def plain(folder, others, tmp_path_factory):
    return judge([folder, others], None, tmp_path_factory.mktemp("plain"))[1]


def test_a_figure_by_reference_file_is_that_by_pictures(folder, others, plain, tmp_path):
    path = tmp_path / "reference.npz"
    said = references.measure(path, f"folder:{folder}", SETTINGS)
    assert said == f"{path}: fd_efflite0 of 4 pictures"
    assert [p.name for p in tmp_path.iterdir()] == ["reference.npz"]
    _, stored = judge([others], path, tmp_path / "out")
    assert stored["fd_efflite0"] == pytest.approx(plain["fd_efflite0"], rel=1e-9)
    assert plain["fd_efflite0"] > 1
    assert stored["conditions"]["reference"] == "reference.npz"
    assert len(stored["conditions"]["reference_sha256"]) == 64
    assert stored["conditions"]["reference_data"] == f"folder:{folder}"
    assert stored["conditions"]["reference_pictures"] == 4


def test_a_file_of_pictures_serves_as_well(folder, others, plain, tmp_path):
    """As ADM reference batches: `arr_0` holds the pictures themselves."""
    data = pictures.data_config(f"folder:{folder}", SETTINGS, DATA)
    inputs = np.stack([pictures.Reader(data).clip(i)[0] for i in range(4)])
    np.savez(tmp_path / "batch.npz", arr_0=inputs)
    _, stored = judge([others], tmp_path / "batch.npz", tmp_path / "out")
    assert stored["fd_efflite0"] == pytest.approx(plain["fd_efflite0"], rel=1e-9)


def test_bad_references_are_one_line(folder, others, tmp_path):
    path = tmp_path / "reference.npz"
    references.measure(path, f"folder:{folder}", SETTINGS)
    two = features.metrics(["fd_efflite0", "kid_efflite0"])
    for action, said in (
        (lambda: references.load(tmp_path / "none.npz", two, SETTINGS), "no such reference file"),
        (lambda: references.load(path, two, SETTINGS), "holds no statistics for kid_efflite0"),
        (
            lambda: references.load(path, features.metrics(["psnr"]), SETTINGS),
            "plays no part in psnr",
        ),
        (
            lambda: references.measure(path, f"folder:{folder}", tiny.settings()),
            "psnr, ssim has no reference statistics",
        ),
    ):
        with pytest.raises(errors.UsageError, match=said) as caught:
            action()
        assert "\n" not in str(caught.value)
    with pytest.raises(errors.UsageError, match="allowed: 2 and more"):
        one = tiny.settings(metrics=NAMES, crop="center", size=32, num=1)
        folders.compare([str(others)], reference=path, out=tmp_path / "out", settings=one)
