"""Videos judged: clips of each, the same figures by both ways in, and a page that plays them."""

import dataclasses
import json
import re
import types

import numpy as np
import pytest

import vitok_jax
from tests import videos
from tests.evaluation import tiny
from vitok_jax import config as config_lib
from vitok_jax.data import video_file
from vitok_jax.evaluation import comparison, evaluator, folders

CONFIG = dataclasses.replace(
    tiny.CONFIG,
    model=config_lib.ModelConfig(variant="w32d1h1-w32d1h1/2x8x12", layers="loop"),
    data=dataclasses.replace(tiny.CONFIG.data, sizes=(), size=16, frames=4),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three videos of 10 frames, and a folder of the same names with some noise."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for kind in ("originals", "others"):
        (root / kind).mkdir()
        for number in range(3):
            frames = videos.moving(10, size=(24, 16)) // (number + 1)
            if kind == "others":
                frames = frames + random.integers(0, 9, frames.shape, np.uint8)
            data = video_file.encode(iter(frames), np.arange(10) / 10, (24, 16), crf=1)
            (root / kind / f"{number}.mp4").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def found(root, tmp_path_factory):
    workdir = tiny.save(tmp_path_factory.mktemp("runs") / "tiny-video", CONFIG)
    settings = tiny.settings(clips=2, yardsticks=("bicubic", "pca"))
    tokenizer = vitok_jax.load(workdir, settings=settings)
    data = f"videofolder:{root / 'originals'}"
    out = tmp_path_factory.mktemp("out")
    question = comparison.Question(
        data=data, fit=data, reference=None, write_reference=None, out=out, settings=settings
    )
    return comparison.compare([tokenizer.entry], question), out


def test_every_clip_counts_once(found) -> None:
    results, out = found
    assert [picture.name for picture in results.pictures[:2]] == ["0.mp4#1", "0.mp4#2"]
    assert len(results.pictures) == 6
    assert {(p.frames, p.height, p.width) for p in results.pictures} == {(4, 16, 16)}
    assert results.conditions["clip_frames"] == 4
    model, bicubic, pca = results.candidates
    # 4 frames are two tubelets in time, and 16 x 16 pixels four patches.
    assert model.conditions["latent_floats"] == "96 per picture"
    assert pca.conditions["mean_floats"] == "96"
    assert pca.means["psnr"] > bicubic.means["psnr"]
    assert json.loads((out / "result.json").read_text())["psnr_pca"] == pca.means["psnr"]


def test_the_page_holds_all_frames_of_a_clip(found) -> None:
    _, out = found
    page = (out / "report.html").read_text()
    assert page.count('"frames":4') == 6
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)


def test_two_folders_of_videos(root, tmp_path) -> None:
    settings = tiny.settings(crop="none", frames=8, clips=1)
    paths = [str(root / "originals"), str(root / "others")]
    found = folders.compare(paths, reference=None, out=tmp_path, settings=settings)
    assert [(p.frames, p.height, p.width) for p in found.pictures] == [(8, 16, 24)] * 3
    assert 30 < found.candidates[0].means["psnr"] < 45
    same = folders.compare([paths[0]] * 2, reference=None, out=tmp_path, settings=settings)
    assert same.candidates[0].means["psnr"] == 100


def test_the_evaluator_of_a_training(root, found) -> None:
    spec = f"videofolder:{root / 'originals'}"
    data = dataclasses.replace(CONFIG.data, eval=spec, eval_clips=2)
    (judge,) = evaluator.for_training(dataclasses.replace(CONFIG, data=data))
    workdir = found[0].candidates[0].conditions["path"]
    params = vitok_jax.load(workdir).params

    state = types.SimpleNamespace(params=params, ema_params={})
    result = judge.run(state, 1)
    assert result.scalars["psnr"] == pytest.approx(found[0].candidates[0].means["psnr"], abs=1e-3)
    assert "reconstructions" in result.images
