"""The yardsticks against closed forms, scikit-learn and their own budgets."""

import io

import numpy as np
import pytest
from PIL import Image

from tests import required
from vitok_jax import errors
from vitok_jax.evaluation import pca, yardsticks


def smooth_clip(height: int, width: int, frames: int = 1, seed: int = 0) -> np.ndarray:
    """A clip with structure: random colours at low resolution, enlarged, and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, height // 6 + 2, width // 6 + 2, 3), np.uint8)
    large = [Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC) for f in coarse]
    noise = rng.normal(0, 3, (frames, height, width, 3))
    return yardsticks.to_uint8(np.stack([np.asarray(f, np.float32) for f in large]) + noise)


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(np.float64) - b).mean())


def test_budget_counts_whole_tubelets():
    budget = yardsticks.Budget(frames=4, patch=8, channels=16)
    assert budget.floats((16, 128, 128)) == 4 * 16 * 16 * 16
    assert budget.floats((1, 9, 8)) == 2 * 16


@pytest.mark.parametrize("height, width", [(64, 64), (96, 40), (31, 57), (256, 144)])
@pytest.mark.parametrize("channels", [4, 16])
def test_bicubic_spends_what_the_latents_hold(height, width, channels):
    floats = yardsticks.Budget(1, 8, channels).floats((1, height, width))
    small = yardsticks.small_sides(height, width, floats)
    # One more or less column is the finest step there is.
    assert abs(3 * small[0] * small[1] - floats) <= 1.5 * small[0]
    assert abs(small[0] / small[1] / (height / width) - 1) < 0.2


def test_bicubic_of_a_flat_picture_is_the_picture():
    clip = np.full((2, 20, 30, 3), 77, np.uint8)
    out = yardsticks.Bicubic(yardsticks.Budget(1, 8, 16)).code(clip).clip
    np.testing.assert_array_equal(out, clip)


def test_bicubic_is_pillows_and_keeps_the_picture_on_a_full_budget():
    clip = smooth_clip(32, 32) // 2 + 60  # so that no overshoot is clipped
    # 4x4 patches with 12 channels hold a quarter of the pixels: exactly half of either side.
    out = yardsticks.Bicubic(yardsticks.Budget(1, 4, 12)).code(clip).clip
    halved = Image.fromarray(clip[0]).resize((16, 16), Image.Resampling.BICUBIC)
    pillow = np.asarray(halved.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(out[0].astype(int) - pillow).max() <= 2  # it rounds on the way, four times
    full = yardsticks.Bicubic(yardsticks.Budget(1, 4, 64)).code(clip).clip
    np.testing.assert_array_equal(full, clip)


def test_jpeg_takes_the_highest_quality_that_fits():
    clip = smooth_clip(64, 48)
    budget = yardsticks.Budget(1, 8, 8)
    jpeg = yardsticks.Jpeg(budget, bytes_per_float=2)
    out = jpeg.code(clip).clip
    limit = budget.floats((1, 64, 48)) * 2
    best = np.inf
    for quality in range(1, 101):
        for sampling in (0, 2):
            buffer = io.BytesIO()
            image = Image.fromarray(clip[0])
            image.save(buffer, "JPEG", quality=quality, subsampling=sampling, optimize=True)
            if buffer.tell() <= limit:
                best = min(best, mse(np.asarray(Image.open(buffer)), clip[0]))
    assert mse(out[0], clip[0]) == pytest.approx(best, rel=0.02)
    assert 0.5 * limit < jpeg.code(clip).cost <= limit


def test_jpeg_tells_what_does_not_fit():
    jpeg = yardsticks.Jpeg(yardsticks.Budget(1, 32, 1), bytes_per_float=2)
    coded = jpeg.code(smooth_clip(32, 32, frames=2))
    assert coded.clip.shape == (2, 32, 32, 3)
    assert coded.cost > 2 * 2


def test_pca_equals_scikit_learn():
    sklearn_pca = required.module("sklearn.decomposition").PCA
    clips = [smooth_clip(40, 64, seed=s) for s in range(3)]
    budget = yardsticks.Budget(1, 8, 5)
    ours = pca.fit(clips, budget, described="three clips")
    patches = np.concatenate(
        [c[0].reshape(5, 8, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(40, -1) for c in clips]
    ).astype(np.float64)
    theirs = sklearn_pca(5, svd_solver="full").fit(patches)
    np.testing.assert_allclose(ours.mean_P, theirs.mean_, rtol=1e-10)
    projection = ours.components_PC @ ours.components_PC.T
    np.testing.assert_allclose(projection, theirs.components_.T @ theirs.components_, atol=1e-7)
    wanted = theirs.inverse_transform(theirs.transform(patches[:40]))
    got = ours.code(clips[0]).clip[0].reshape(5, 8, 8, 8, 3).transpose(0, 2, 1, 3, 4)
    np.testing.assert_array_equal(got.reshape(40, -1), yardsticks.to_uint8(wanted))


def test_pca_has_as_many_components_as_channels_and_no_more_than_pixels():
    clips = [smooth_clip(16, 16)]
    assert pca.fit(clips, yardsticks.Budget(1, 4, 7), described="x").components_PC.shape == (48, 7)
    whole = pca.fit(clips, yardsticks.Budget(1, 4, 64), described="x")
    assert whole.components_PC.shape == (48, 48)
    np.testing.assert_array_equal(whole.code(clips[0]).clip, clips[0])


def test_pca_of_odd_and_tiny_sizes_and_of_clips():
    budget = yardsticks.Budget(2, 8, 200)
    codec = pca.fit([smooth_clip(24, 24, frames=4), smooth_clip(3, 5)], budget, described="x")
    clip = smooth_clip(13, 21, frames=3)
    out = codec.code(clip).clip
    assert out.shape == clip.shape and out.dtype == np.uint8
    assert codec.conditions["tubelet"] == "2x8x8x3"
    assert codec.conditions["fitted_on"] == "x, 19 tubelets"


def test_more_floats_are_never_worse():
    clip = smooth_clip(64, 64)
    for make in (
        yardsticks.Bicubic,
        lambda b: yardsticks.Jpeg(b, bytes_per_float=2),
        lambda b: pca.fit([clip], b, described="itself"),
    ):
        errors_by_c = [
            mse(make(yardsticks.Budget(1, 8, c)).code(clip).clip, clip) for c in (4, 16, 48)
        ]
        assert errors_by_c == sorted(errors_by_c, reverse=True)


def test_bad_input():
    with pytest.raises(errors.UsageError, match="no pictures"):
        pca.fit([], yardsticks.Budget(1, 8, 4), described="folder:empty")
    with pytest.raises(errors.UsageError, match="did you mean 'bicubic'"):
        yardsticks.check_names(("bicubik",))
