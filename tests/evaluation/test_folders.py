"""Two folders of pictures: pairs by name, sets of any size, one line when they do not fit."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import tiny
from tests.evaluation.test_scoreboard import MeanColour
from vitok_jax import errors
from vitok_jax.evaluation import folders
from vitok_jax.metrics import features

SETTINGS = tiny.settings(crop="none")


def judge(first, second, root, settings=SETTINGS):
    paths = [str(first), str(second)]
    return folders.compare(paths, reference=None, out=root / "out", settings=settings)


@pytest.fixture
def darker(folder, tmp_path):
    """The same pictures, ten levels darker, some under another suffix."""
    root = tmp_path / "darker"
    root.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        pixels = np.maximum(np.asarray(Image.open(path)).astype(int) - 10, 0).astype(np.uint8)
        name = path.with_suffix(".tiff" if number % 2 else ".png").name
        Image.fromarray(pixels).save(root / name)
    return root


def test_pairs_are_found_by_name(folder, darker, tmp_path):
    found = judge(folder, darker, tmp_path)
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    expected = 20 * np.log10(255 / 10)
    assert stored["psnr"] == pytest.approx(expected, abs=0.3)
    assert all(i["psnr"] >= expected - 1e-3 for i in stored["images"])
    assert len(stored["images"]) == 4
    assert found.candidates[0].name == "darker"
    assert stored["candidates"][0]["conditions"]["path"] == str(darker)
    assert "posterior" not in stored["conditions"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 20_000
    assert (tmp_path / "out" / "reconstructions.png").exists()


def test_a_folder_against_itself_is_perfect(folder, tmp_path):
    settings = tiny.settings(crop="center", size=32)
    found = judge(folder, f"{folder}/", tmp_path, settings)
    assert found.candidates[0].means["psnr"] == 100
    assert found.candidates[0].means["ssim"] == pytest.approx(1)


def test_metrics_of_sets_take_folders_of_any_names_and_sizes(folder, darker, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "metrics", lambda names: {"colour": MeanColour()})
    (darker / "a.png").rename(darker / "other.png") if (darker / "a.png").exists() else None
    shutil.copy(next(darker.iterdir()), darker / "again.png")
    settings = tiny.settings(crop="none", metrics=("colour",))
    found = judge(folder, darker, tmp_path, settings)
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    assert 0 < stored["colour"] == found.candidates[0].means["colour"]
    assert stored["images"] == []
    assert "report.html" in {p.name for p in (tmp_path / "out").iterdir()}


def test_folders_that_do_not_fit_are_one_line(folder, darker, tmp_path):
    def said(*pair):
        with pytest.raises(errors.UsageError) as caught:
            judge(*pair, tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in said(folder, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in said(folder, tmp_path / "empty")
    picture = next(p for p in darker.iterdir() if p.stem == "b")
    Image.open(picture).resize((20, 20)).save(picture)
    assert "b.png has 32x32 pixels, its partner" in said(folder, darker)
    picture.unlink()
    assert "has 4 pictures and" in said(folder, darker)
    assert "'b' is in one of them only" in said(folder, darker)
    with pytest.raises(errors.UsageError, match="allowed: two folders, A,B, or one with --ref"):
        folders.compare([str(folder)], reference=None, out=tmp_path / "out", settings=SETTINGS)
    shutil.copy(folder / "a.png", darker / "b.png")
    shutil.copy(folder / "a.png", darker / "b.bmp")
    assert "one picture of a name" in said(folder, darker)


def test_a_killed_comparison_goes_on(folder, darker, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "metrics", lambda names: {"colour": MeanColour()})
    settings = tiny.settings(crop="none", metrics=("colour",))
    whole = judge(folder, darker, tmp_path / "whole", settings).candidates[0].means
    add, added = folders.scoreboard.Scoreboard.add, []

    def killed(board, batch, outputs):
        if len(added) == 5:
            raise KeyboardInterrupt
        add(board, batch, outputs)
        added.append(batch)

    monkeypatch.setattr(folders.scoreboard.Scoreboard, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        judge(folder, darker, tmp_path, settings)
    assert len(list((tmp_path / "out").glob("partial-*.npz"))) == 2, "originals, and the others"
    added.clear()
    assert judge(folder, darker, tmp_path, settings).candidates[0].means == whole
    assert len(added) == 3, "of the four batches of the others"
    assert not list((tmp_path / "out").glob("partial-*.npz"))
