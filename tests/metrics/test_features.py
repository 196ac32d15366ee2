"""The registry end to end: pictures and clips in, numbers, states and conditions out."""

import dataclasses

import numpy as np
import pytest

from tests import pictures, required
from vitok_jax import errors
from vitok_jax.backbones import i3d, weights
from vitok_jax.metrics import extractors, features, moments, sets

_SIDE = 32


@pytest.fixture(scope="module")
def batch():
    """Crops of photos, the same with noise; 13 of each, no multiple of the virtual devices."""
    photo = pictures.photo("astronaut.png", 128)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 128 - _SIDE, (13, 2))
    crops = np.stack([photo[i : i + _SIDE, j : j + _SIDE] for i, j in corners])
    return crops, pictures.noisy(crops, 12)


def _toy_extractor(takes="pictures"):
    """A few channel statistics in place of a network: the states do not know the difference."""

    def network(params, pixels):
        flat = pixels.reshape(pixels.shape[0], -1, 3)
        pool = params * flat[:, :: flat.shape[1] // 5]
        return {"pool": pool, "logits": flat[:, :4] / 64}

    return extractors.Extractor(
        "efflite0", takes, lambda x: x, network, np.float32(1.0), 2, "toy statistics"
    )


@pytest.fixture(scope="module")
def toys():
    """Every kind of set metric over the toy features."""
    extractor = _toy_extractor()
    return {
        "fd": sets.frechet_distance("fd", extractor, "pool"),
        "kd": sets.kernel_distance("kd", extractor, "pool"),
        "score": sets.score("score", extractor, "logits"),
        "precision": sets.coverage("precision", "precision", extractor, "pool"),
        "recall": sets.coverage("recall", "recall", extractor, "pool"),
    }


def test_any_batches_order_and_padding_give_the_same_numbers(toys, batch):
    reference, candidate = batch
    index, everything = np.arange(13), np.ones(13, bool)
    for name, metric in toys.items():
        whole = metric.update(metric.init(), reference, candidate, everything, index=index)
        parts = []
        for rows in ([9, 10, 11, 12], [0, 1, 2], [3, 4, 5, 6, 7, 8]):
            padded = [*rows, 0]
            mask = np.array([True] * len(rows) + [False])
            parts.append(
                metric.update(
                    metric.init(), reference[padded], candidate[padded], mask, index=index[padded]
                )
            )
        merged = metric.merge(metric.merge(parts[2], parts[0]), parts[1])
        for key, value in metric.compute(whole).items():
            assert metric.compute(merged)[key] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        assert {k: v.shape for k, v in whole.items()} == {k: v.shape for k, v in merged.items()}


def test_without_an_index_examples_are_counted_on(toys, batch):
    reference, candidate = batch
    metric = toys["score"]
    counted = metric.init()
    for rows in (slice(0, 6), slice(6, 13)):
        size = len(candidate[rows])
        counted = metric.update(counted, reference[rows], candidate[rows], np.ones(size, bool))
    whole = metric.update(metric.init(), None, candidate, np.ones(13, bool), index=np.arange(13))
    assert metric.compute(counted) == pytest.approx(metric.compute(whole))


def test_each_side_can_grow_by_itself(toys, batch):
    reference, candidate = batch
    metric = toys["fd"]
    state = metric.update(metric.init(), reference, None, np.ones(13, bool))
    state = metric.update(state, None, candidate[:9], np.ones(9, bool))
    both = metric.extractor(reference)["pool"], metric.extractor(candidate[:9])["pool"]
    assert state["reference/count"] == 13 and state["candidate/count"] == 9
    np.testing.assert_allclose(state["candidate/mean"], both[1].mean(0), rtol=1e-6)


def test_states_have_a_fixed_size_beyond_their_capacity(monkeypatch, batch):
    monkeypatch.setattr(sets, "CAPACITY", 8)
    metric = sets.kernel_distance("kd", _toy_extractor(), "pool")
    state = metric.update(metric.init(), *batch, np.ones(13, bool), index=np.arange(13))
    assert state["candidate/features"].shape[0] == 8
    assert state["candidate/seen"] == 13


def test_frames_of_a_video_are_pictures(toys, batch):
    reference, candidate = (side[:12] for side in batch)
    metric = toys["fd"]
    flat = metric.update(metric.init(), reference, candidate, np.ones(12, bool))
    videos = [side.reshape(4, 3, *side.shape[1:]) for side in (reference, candidate)]
    video = metric.update(metric.init(), *videos, np.ones(4, bool))
    assert metric.compute(video) == pytest.approx(metric.compute(flat))


def test_metrics_that_share_an_extractor_run_it_once(batch):
    calls = []
    extractor = _toy_extractor()
    run = extractor._run
    extractor._run = lambda rows: calls.append(len(rows)) or run(rows)
    for metric in (
        sets.frechet_distance("fd", extractor, "pool"),
        sets.score("score", extractor, "logits"),
    ):
        metric.update(metric.init(), *batch, np.ones(13, bool))
    assert len(calls) == 2, "one pass over the references, one over the candidates"
    changed = batch[1].copy()
    before = extractor(changed)["pool"]
    changed[0] = 255 - changed[0]  # in place: what was kept must not be taken for it
    assert not np.array_equal(extractor(changed)["pool"], before)


def test_efficientnet_metrics_end_to_end(batch):
    required.weights("efflite0")
    reference, candidate = batch
    metrics = features.metrics(["fd_efflite0", "is_efflite0"])
    values = []
    for other in (reference, candidate):
        state = metrics["fd_efflite0"].init()
        state = metrics["fd_efflite0"].update(state, reference, other, np.ones(13, bool))
        values.append(metrics["fd_efflite0"].compute(state)["fd_efflite0"])
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert values[1] > 1
    score = metrics["is_efflite0"]
    state = score.update(score.init(), None, reference, np.ones(13, bool))
    assert set(score.compute(state)) == {"is_efflite0", "is_efflite0_std"}
    conditions = metrics["fd_efflite0"].conditions
    assert conditions["weights_sha256"] == weights.sha256("efflite0")
    assert "bicubic" in conditions["features"]


def test_paired_metrics_mean_their_images_and_merge_exactly(batch):
    reference, candidate = batch
    for metric in features.metrics(["psnr", "ssim"]).values():
        values = metric.per_image(reference, candidate)
        assert values.shape == (13,)
        mask = np.arange(13) < 12
        parts = [
            metric.update(metric.init(), reference[:8], candidate[:8], mask[:8]),
            metric.update(metric.init(), reference[8:], candidate[8:], mask[8:]),
        ]
        value = metric.compute(metric.merge(*parts))[metric.name]
        assert value == pytest.approx(values[:12].mean(), rel=1e-9)


def test_originals_are_looked_at_once_for_all_candidates(batch):
    required.weights("lpips_alex")
    reference, candidate = batch
    metric = features.metric("lpips_alex")
    looks = []
    shared = dataclasses.replace(metric, look=lambda x: looks.append(x) or metric.look(x))
    first, second = shared.per_image_of_each(reference, [candidate, reference])
    assert len(looks) == 3, "at the originals once"
    np.testing.assert_array_equal(first, metric.per_image(reference, candidate))
    np.testing.assert_allclose(second, 0, atol=1e-12)


def test_clips_are_one_example_for_psnr_and_frames_for_ssim(batch):
    reference, candidate = (side[:12].reshape(2, 6, *side.shape[1:]) for side in batch)
    frames = [side[:12] for side in batch]
    chosen = features.metrics(["psnr", "ssim"])
    whole = chosen["psnr"].per_image(reference, candidate)
    squares = (frames[0].astype(float) - frames[1]).reshape(2, -1) ** 2
    np.testing.assert_allclose(whole, 10 * np.log10(255**2 / squares.mean(1)), atol=1e-4)
    per_frame = chosen["ssim"].per_image(*frames).reshape(2, 6).mean(1)
    np.testing.assert_allclose(chosen["ssim"].per_image(reference, candidate), per_frame)


def test_missing_inception_is_one_line_that_says_what_it_costs(monkeypatch, tmp_path):
    monkeypatch.setenv("VITOK_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry = dataclasses.replace(weights.WEIGHTS["inception"], url="file:///nowhere.pth")
    monkeypatch.setitem(weights.WEIGHTS, "inception", entry)
    with pytest.raises(weights.MissingWeights) as caught:
        features.metric("fid")
    line = str(caught.value)
    assert "\n" not in line
    assert "pt_inception-2015-12-05-6726825d.pth" in line and "no fid, sfid, kid" in line


def test_names_are_checked():
    with pytest.raises(errors.UsageError, match=r"unknown value 'lpips' \(did you mean 'lpips_"):
        features.metrics(["psnr", "lpips"])
    with pytest.raises(errors.UsageError, match="names one of them twice"):
        features.metrics(["psnr", "psnr"])
    with pytest.raises(errors.UsageError, match="none given; allowed: psnr"):
        features.metrics([])
    assert {"fid", "fd_efflite0", "fvd", "dists"} <= set(features.NAMES)


def test_too_little_to_see_is_one_clear_line(toys, batch):
    reference, candidate = (side[:1] for side in batch)
    one = np.ones(1, bool)
    for name, line in (
        ("fd", r"fd: 1 reference example\(s\); allowed: 2"),
        ("kd", "kd: kernel distance of 1 examples"),
        ("score", "score: Inception Score of 1 examples"),
        ("recall", "recall: precision and recall of 1 examples"),
    ):
        state = toys[name].update(toys[name].init(), reference, candidate, one)
        with pytest.raises(errors.UsageError, match=line):
            toys[name].compute(state)
    psnr = features.metric("psnr")
    with pytest.raises(errors.UsageError, match="psnr: no picture was seen"):
        psnr.compute(psnr.init())
    with pytest.raises(errors.UsageError, match="needs both pictures"):
        psnr.update(psnr.init(), None, candidate, one)
    with pytest.raises(errors.UsageError, match="pairs have one shape"):
        psnr.per_image(reference, candidate[:, 1:])
    with pytest.raises(errors.UsageError, match="no number per picture"):
        toys["fd"].per_image(reference, candidate)


def test_constant_pictures_are_refused(toys, batch):
    constant = np.full_like(batch[0], 128)
    for name, metric in toys.items():
        seen = np.ones(13, bool)
        state = metric.update(metric.init(), batch[0], constant, seen)
        with pytest.raises(
            errors.UsageError, match=f"{name}: every candidate example has the same"
        ):
            metric.compute(state)
        if metric.sides == "both":
            state = metric.update(metric.init(), constant, batch[0], seen)
            with pytest.raises(errors.UsageError, match="every reference example has the same"):
                metric.compute(state)


def test_features_that_are_not_finite_are_refused(batch):
    extractor = _toy_extractor()
    extractor.params = np.float32(np.nan)
    metric = sets.frechet_distance("fd", extractor, "pool")
    with pytest.raises(errors.UsageError, match="pool features are not finite"):
        metric.update(metric.init(), *batch, np.ones(13, bool))


def test_short_clips_are_refused_and_long_ones_shortened():
    extractor = _toy_extractor(takes="clips")
    clip = np.zeros((1, 9, 8, 8, 3), np.uint8)
    with pytest.raises(errors.UsageError, match="9 frames is too short; allowed: 10 and more"):
        extractor(clip)
    with pytest.raises(errors.UsageError, match="1 frames is too short"):
        extractor(clip[:, 0])
    assert extractor._rows(np.zeros((2, 20, 8, 8, 3), np.uint8)).shape[1] == 16
    assert i3d.SHORTEST == 10


def test_moments_of_different_widths_do_not_merge():
    with pytest.raises(errors.UsageError, match="of 3 and of 4 features cannot merge"):
        moments.merge(moments.of(np.ones((2, 3))), moments.of(np.ones((2, 4))))
