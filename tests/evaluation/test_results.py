"""The forms of a result: JSON, Markdown, the last line; and which pictures are looked at."""

import json

import numpy as np
import pytest

from vitok_jax.evaluation import columns, figure, report, results
from vitok_jax.metrics import features

PSNR = results.Column("psnr", "PSNR", "higher", "picture", "dB", 2, "mean of 10 log10")
LPIPS = results.Column("lpips_vgg", "LPIPS (VGG)", "lower", "picture", "", 4, "v0.1")
FD = results.Column("fd", "FD", "lower", "set", "", 1, "moments")


def candidate(name: str, kind: results.CandidateKind, psnr: list[float]) -> results.Candidate:
    lpips = [1 / value for value in psnr]
    means = {"psnr": float(np.mean(psnr)), "lpips_vgg": float(np.mean(lpips)), "fd": 9.0}
    channels = results.Channels(np.zeros(2), np.ones(2), 8) if kind == "checkpoint" else None
    values = {"psnr": psnr, "lpips_vgg": lpips}
    return results.Candidate(name, kind, means, values, {"path": f"runs/{name}"}, channels)


def made(*candidates: results.Candidate) -> results.Results:
    count = len(candidates[0].values["psnr"])
    return results.Results(
        "a on b",
        [PSNR, LPIPS, FD],
        list(candidates),
        [results.Picture(2 * i, f"{i}.png", 8, 9) for i in range(count)],
        {"pictures": count, "data": "b"},
    )


DEMO = candidate("demo", "checkpoint", [30.0, 20.0, 25.0])
PCA = candidate("pca", "yardstick", [24.0, 21.0, 24.0])


def test_json_of_one_checkpoint_has_its_figures_at_the_top():
    found = results.to_json(made(DEMO, PCA))
    assert found["psnr"] == 25.0
    assert found["psnr_pca"] == 23.0
    assert found["fd"] == 9.0
    assert found["images"][1]["psnr"] == 20.0
    assert found["images"][1]["psnr_pca"] == 21.0
    assert found["images"][1]["name"] == "1.png"
    assert found["images"][1]["index"] == 2
    assert "fd" not in found["images"][1]
    assert found["candidates"][0]["latents"]["std"] == [1.0, 1.0]
    assert "latents" not in found["candidates"][1]
    json.dumps(found, allow_nan=False)


def test_json_of_several_checkpoints_names_each():
    other = candidate("other", "checkpoint", [31.0, 21.0, 26.0])
    found = results.to_json(made(DEMO, other, PCA))
    assert "psnr" not in found
    assert found["psnr_demo"] == 25.0
    assert found["psnr_other"] == 26.0
    assert found["images"][0]["psnr_other"] == 31.0


def test_markdown_marks_the_best_figure_of_each_column():
    text = results.to_markdown(made(DEMO, PCA))
    assert "| demo | **25.00** | **0.0411** | **9.0** |" in text
    assert "| pca | 23.00 | 0.0437 | **9.0** |" in text
    assert "| PSNR ↑ | LPIPS (VGG) ↓ | FD ↓ |" in text
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (header, rule, *rows)} == {5}
    assert "- `psnr`: mean of 10 log10" in text
    assert "- path: runs/demo" in text


def test_the_last_line_stands_beside_the_yardsticks():
    line = results.to_line(made(DEMO, PCA))
    assert line == (
        "demo: PSNR 25.00 dB (pca 23.00 dB); LPIPS (VGG) 0.0411 (pca 0.0437); FD 9.0 (pca 9.0)"
    )


def test_worst_first_follows_the_direction_of_the_first_metric():
    assert made(DEMO).worst_first() == [1, 2, 0]
    found = made(DEMO)
    by_lpips = results.Results("", [LPIPS, PSNR], found.candidates, found.pictures, {})
    assert by_lpips.worst_first() == [1, 2, 0]
    sets = results.Results("", [FD], found.candidates, [], {})
    assert sets.worst_first() == []


def test_the_page_shows_mostly_the_worst_and_some_of_the_rest():
    values = list(np.random.default_rng(0).permutation(100).astype(float) + 1)
    found = made(candidate("demo", "checkpoint", values))
    order = found.worst_first()
    chosen = report.choose(found, 12)
    assert len(set(chosen)) == 12
    assert chosen[:8] == order[:8]
    assert set(chosen[8:10]) == set(order[-2:])
    assert set(chosen[10:]) == set(order[49:51])
    assert report.choose(found, 200) == order


def test_columns_of_the_registry_say_what_is_computed():
    metrics = features.metrics(["ssim", "psnr"])
    made_columns = columns.columns(metrics)
    assert [c.name for c in made_columns] == ["ssim", "psnr"]
    psnr = made_columns[1]
    assert (psnr.label, psnr.unit, psnr.better, psnr.scope) == ("PSNR", "dB", "higher", "picture")
    assert "10 log10(255^2 / MSE)" in psnr.implementation


def test_difference_is_absolute_and_amplified():
    a, b = np.array([0, 10, 255], np.uint8), np.array([3, 2, 0], np.uint8)
    np.testing.assert_array_equal(figure.difference(a, b), [12, 32, 255])
    np.testing.assert_array_equal(figure.difference(b, a), [12, 32, 255])


def test_the_grid_has_a_labelled_row_per_picture_of_any_size():
    inputs = [np.full((20, 30, 3), 100, np.uint8), np.full((700, 300, 3), 50, np.uint8)]
    outputs = {"demo": [np.full_like(p, 90) for p in inputs], "pca": inputs}
    drawn = figure.grid(inputs, outputs, ["first " * 99, "second"])
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == 10 + 4 * 266
    # Each row: the picture in its cell, its text and a gap; 20x30 is enlarged by 8.
    assert drawn.shape[0] == 24 + 2 * 10 + (160 + 34) + (256 + 34)
    assert tuple(drawn[24 + 10 + 80, 10 + 60]) == (100, 100, 100)
    assert tuple(drawn[24 + 10 + 80, 10 + 3 * 266 + 60]) == (40, 40, 40)


@pytest.mark.parametrize("value, said", [(None, "-"), (1.23456, "1.23 dB")])
def test_figures_are_shown_with_their_unit(value, said):
    assert results.shown(PSNR, value) == said
