"""Formulas over given features, against the public packages and closed forms."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import required, torch_networks
from vitok_jax import errors
from vitok_jax.metrics import frechet, inception_score, kernel, moments, neighbours, samples


def _features(count, width, seed, shift=0.0):
    """Correlated features, the kind that networks give."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width)
    return (np.maximum(rng.normal(size=(count, width)) @ mixing, -0.2) + shift).astype(np.float32)


def _distance(x, y):
    return frechet.distance(*(part for f in (x, y) for part in _mean_and_covariance(f)))


def _mean_and_covariance(features):
    state = moments.of(features)
    return state["mean"], moments.covariance(state)


@pytest.mark.parametrize("count", [300, 40], ids=["full rank", "fewer examples than features"])
def test_frechet_equals_torch_fidelity(count):
    torch_networks.torchvision()
    public = required.module("torch_fidelity.metric_fid")
    torch = required.module("torch")
    x, y = _features(count, 64, 0), _features(count + 7, 64, 1, 0.1)
    stats = [public.fid_features_to_statistics(torch.from_numpy(f).double()) for f in (x, y)]
    want = public.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    np.testing.assert_allclose(_distance(x, y), want, rtol=1e-3)


def test_frechet_equals_the_matrix_root_and_closed_forms():
    x, y = _features(500, 24, 2), _features(400, 24, 3, 0.3)
    (m1, c1), (m2, c2) = _mean_and_covariance(x), _mean_and_covariance(y)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    want = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * root)
    np.testing.assert_allclose(frechet.distance(m1, c1, m2, c2), want, rtol=1e-6)
    np.testing.assert_allclose(frechet.distance(m1, c1, m1, c1), 0, atol=1e-9)
    np.testing.assert_allclose(frechet.distance(m1, c1, m1 + 2, c1), 4 * 24, rtol=1e-9)
    np.testing.assert_allclose(
        frechet.distance(m1, np.eye(24), m1, 4 * np.eye(24)), 24 * (2 - 1) ** 2, rtol=1e-9
    )


def test_frechet_of_constant_features_is_the_distance_of_means():
    zero = np.zeros((3, 3))
    assert frechet.distance(np.zeros(3), zero, np.full(3, 2.0), zero) == pytest.approx(12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.randoms())
def test_moments_are_the_same_in_any_batches_and_order(sizes, random):
    rows = _features(sum(sizes) + 1, 5, 4, 1e3)
    cuts = np.cumsum(sizes)
    parts = [moments.of(part) for part in np.split(rows, cuts)]
    random.shuffle(parts)
    state = moments.empty()
    for part in parts:
        state = moments.merge(state, part)
    want = rows.astype(np.float64)
    assert state["count"] == len(rows)
    np.testing.assert_allclose(state["mean"], want.mean(0), rtol=1e-9)
    if len(rows) > 1:
        np.testing.assert_allclose(
            moments.covariance(state), np.cov(want, rowvar=False), rtol=1e-6, atol=1e-9
        )


def test_kernel_distance_equals_torch_fidelity():
    torch_networks.torchvision()
    public = required.module("torch_fidelity.metric_kid")
    torch = required.module("torch")
    x, y = _features(300, 32, 5), _features(260, 32, 6, 0.05)
    want = public.kid_features_to_metric(
        *(torch.from_numpy(f).double() for f in (x, y)),
        kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
    )  # fmt: skip
    got = kernel.distance(x, y, subsets=20, subset_size=100)
    np.testing.assert_allclose(got.mean, want["kernel_inception_distance_mean"], rtol=1e-3)
    np.testing.assert_allclose(got.std, want["kernel_inception_distance_std"], rtol=1e-3)


def test_kernel_distance_is_unbiased_about_zero():
    values = [
        kernel.unbiased_mmd(*np.random.default_rng(s).normal(size=(2, 40, 6))) for s in range(200)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_inception_score_equals_torch_fidelity_in_any_batches():
    torch_networks.torchvision()
    public = required.module("torch_fidelity.metric_isc")
    torch = required.module("torch")
    logits = 3 * np.random.default_rng(7).normal(size=(203, 17)).astype(np.float32)
    want = public.isc_features_to_metric(torch.from_numpy(logits))
    # The public splits are contiguous after a seeded shuffle; ours are told by the caller.
    place = np.argsort(np.random.RandomState(2020).permutation(203))
    bounds = [(i * 203) // 10 for i in range(11)]
    split = np.searchsorted(bounds, place, side="right") - 1
    state = inception_score.empty()
    for rows in np.array_split(np.arange(203), 7):
        batch = inception_score.of(logits[rows], split[rows])
        state = inception_score.merge(state, batch)
    got = inception_score.score(state)
    np.testing.assert_allclose(got.mean, want["inception_score_mean"], rtol=1e-6)
    np.testing.assert_allclose(got.std, want["inception_score_std"], rtol=1e-5)


def test_inception_score_of_certain_and_uniform_predictions():
    certain = np.where(np.eye(10) > 0, 50.0, 0.0).repeat(10, axis=0)
    split = np.tile(np.arange(10), 10)
    got = inception_score.score(inception_score.of(certain, split))
    assert got.mean == pytest.approx(10, rel=1e-6)
    assert inception_score.score(inception_score.of(0 * certain, split)).mean == pytest.approx(1)


def test_precision_and_recall_equal_torch_fidelity():
    torch_networks.torchvision()
    public = required.module("torch_fidelity.metric_prc")
    torch = required.module("torch")
    x, y = _features(180, 16, 8) * 0.6, _features(150, 16, 9, 0.1)
    want = public.calculate_precision_recall_full(
        *(torch.from_numpy(f).double() for f in (x, y)), neighborhood=3
    )
    got = neighbours.precision_recall(x, y)
    assert 0 < got.recall < got.precision < 1
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_precision_and_recall_of_equal_and_distant_sets():
    x = _features(20, 4, 10)
    assert neighbours.precision_recall(x, x) == (1.0, 1.0)
    assert neighbours.precision_recall(x, x + 100) == (0.0, 0.0)


def test_samples_depend_on_the_set_of_indices_alone():
    features = _features(50, 3, 11)
    index = np.arange(50)
    whole = samples.merge(samples.empty(), {"index": index, "features": features}, capacity=20)
    shuffled = np.random.default_rng(0).permutation(50)
    state = samples.empty()
    for rows in np.array_split(shuffled, 9):
        state = samples.merge(
            state, {"index": index[rows], "features": features[rows]}, capacity=20
        )
    np.testing.assert_array_equal(state["index"], whole["index"])
    np.testing.assert_array_equal(state["features"], features[whole["index"]])
    assert len(whole["index"]) == 20
    assert np.abs(whole["index"].mean() - 24.5) < 10, "neither the first nor the last"


def test_too_few_examples_are_one_clear_line():
    one = np.zeros((1, 4))
    with pytest.raises(errors.UsageError, match="covariance of 1 examples; allowed: 2"):
        moments.covariance(moments.of(one))
    with pytest.raises(errors.UsageError, match="kernel distance of 1 examples; allowed: 2"):
        kernel.distance(one, np.zeros((9, 4)))
    with pytest.raises(errors.UsageError, match="recall of 3 examples; allowed: 4"):
        neighbours.precision_recall(np.zeros((3, 4)), np.zeros((9, 4)))
    with pytest.raises(errors.UsageError, match="Score of 9 examples in 10 splits; allowed: 10"):
        inception_score.score(inception_score.of(np.zeros((9, 4)), np.arange(9)))
    with pytest.raises(errors.UsageError, match="between 3 and 4 features"):
        frechet.distance(np.zeros(3), np.eye(3), np.zeros(4), np.eye(4))
    with pytest.raises(errors.UsageError, match="not finite"):
        frechet.distance(np.full(3, np.nan), np.eye(3), np.zeros(3), np.eye(3))
