"""What `evaluate --folders` says of input that it cannot judge: one line each, never a number."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import tiny
from tests.metrics.test_features import _toy_extractor
from vitok_jax import errors
from vitok_jax.backbones import weights
from vitok_jax.evaluation import folders
from vitok_jax.metrics import features, sets


@pytest.fixture
def said(tmp_path, monkeypatch):
    """The line of an error, given two lists of pictures and a metric, or a way to make one."""

    def judge(metric, *sides):
        paths = []
        for number, pictures in enumerate(sides):
            root = tmp_path / f"side{number}"
            root.mkdir()
            for index, picture in enumerate(pictures):
                Image.fromarray(picture).save(root / f"{index}.png")
            paths.append(str(root))
        if not isinstance(metric, str):
            monkeypatch.setattr(features, "metrics", lambda names: {"fd": metric})
        settings = tiny.settings(metrics=(metric if isinstance(metric, str) else "fd",))
        settings = dataclasses.replace(settings, crop="none")
        with pytest.raises(errors.UsageError) as caught:
            folders.compare(paths, reference=None, out=tmp_path / "out", settings=settings)
        assert not (tmp_path / "out" / "result.json").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return judge


def pictures(count, side=16):
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def toy_distance(factor=1.0):
    extractor = _toy_extractor()
    extractor.params = np.float32(factor)
    return sets.frechet_distance("fd", extractor, "pool")


def test_missing_weights(said, monkeypatch, tmp_path):
    monkeypatch.setenv("VITOK_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry = dataclasses.replace(weights.WEIGHTS["inception"], url="")
    monkeypatch.setitem(weights.WEIGHTS, "inception", entry)
    line = said("fid", pictures(3), pictures(3))
    assert line.startswith("weights pt_inception-2015-12-05-6726825d.pth: not found in")
    assert "put the file into the folder that VITOK_JAX_WEIGHTS names" in line


def test_folders_of_different_numbers(said):
    assert "has 3 pictures and" in said("psnr", pictures(3), pictures(2))


def test_pictures_of_different_sizes(said):
    line = said("psnr", pictures(2), pictures(2, side=18))
    assert "0.png has 16x16 pixels, its partner 0.png 18x18; pairs need one size" in line


def test_one_picture_only(said):
    line = said(toy_distance(), pictures(3), pictures(1))
    assert line == "fd: 1 candidate example(s); allowed: 2 and more"


def test_constant_pictures(said):
    grey = [np.full((16, 16, 3), 128, np.uint8)] * 4
    line = said(toy_distance(), pictures(4), grey)
    assert line.startswith("fd: every candidate example has the same features")


def test_features_that_are_not_finite(said):
    line = said(toy_distance(np.nan), pictures(3), pictures(3))
    assert line.endswith("its pool features are not finite")


def test_videos_shorter_than_ten_frames():
    metric = sets.frechet_distance("fvd", _toy_extractor(takes="clips"), "pool")
    clips = np.zeros((2, 9, 8, 8, 3), np.uint8)
    with pytest.raises(errors.UsageError, match="9 frames is too short; allowed: 10 and more"):
        metric.update(metric.init(), clips, clips, np.ones(2, bool))
