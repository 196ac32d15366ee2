"""The path of whole pictures: padded, tiled, blended, cropped; batches and devices play no part."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vitok_jax
from tests.evaluation import tiny
from vitok_jax.evaluation import codec, devices, padding, reconstruction, yardsticks
from vitok_jax.models import tubelets, variants


class Identity:
    """A codec that keeps every pixel, with as many channels as a patch has values."""

    variant = variants.parse("S-S/1x8x192")
    budget = yardsticks.Budget(1, 8, 192)
    time_attention = "full"
    calls: list[tuple[int, ...]]

    def __init__(self) -> None:
        self.calls = []

    def encode(self, params, pixels, draws):
        self.calls.append(pixels.shape)
        return tubelets.patchify(codec.to_unit(pixels), self.variant.tubelet).patches

    def decode(self, params, tokens, *, grid, kind):
        return codec.from_unit(tubelets.unpatchify(tokens, grid, self.variant.tubelet), kind)


def path_of(coder, *, side: int, shards: int = 1) -> reconstruction.Reconstructor:
    rows = devices.local(jax.devices()[:shards])
    return reconstruction.Reconstructor(
        codec.Bound(coder, {}, (16, side), 1), rows, settings=tiny.settings()
    )


@pytest.mark.parametrize("height, width", [(32, 32), (24, 8), (33, 40), (72, 56), (7, 90)])
def test_what_the_codec_keeps_comes_back_exactly(height, width):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 1, height, width, 3), np.uint8)
    path = path_of(Identity(), side=32)
    np.testing.assert_array_equal(path.reconstruct(clips, draws_B3=None), clips)
    floats = (clips / np.float32(127.5) - 1).astype(np.float32)
    np.testing.assert_allclose(path.reconstruct(floats, draws_B3=None), floats, atol=1e-5)


def test_latents_hold_one_token_per_patch_however_they_were_tiled():
    path = path_of(Identity(), side=32)
    latents = path.encode(np.zeros((1, 1, 71, 56, 3), np.uint8), draws_B3=None)
    assert latents.shape == (1, 1, 9, 7, 192)
    assert path.route((1, 71, 56)).is_tiled
    assert path.floats((1, 71, 56)) == latents.size


def test_the_model_never_sees_more_than_its_training_side():
    coder = Identity()
    path = path_of(coder, side=32)
    for shape in ((100, 200), (20, 100), (64, 8)):
        path.reconstruct(np.zeros((1, 1, *shape, 3), np.uint8), draws_B3=None)
    assert all(max(shape[2:4]) <= 32 for shape in coder.calls)
    # Numbers of tiles are powers of two, so that few programs are compiled.
    assert all(math.log2(shape[0]).is_integer() for shape in coder.calls)


def test_tiles_of_a_model_that_looks_around_differ_but_join_smoothly(tokenizer):
    """A random network's seams: no step between neighbours across them than elsewhere."""
    picture = np.full((1, 1, 64, 96, 3), 128, np.uint8)
    flat = tokenizer.reconstructor.reconstruct(picture, draws_B3=None)[0, 0].astype(int)
    assert tokenizer.reconstructor.route((1, 64, 96)).is_tiled
    seams = np.abs(np.diff(flat, axis=1)).max(axis=(0, 2))
    inside_patch = np.arange(1, 96) % 8 != 0
    whole = tokenizer.decode(tokenizer.encode(picture[:, 0, :32, :32]))[0].astype(int)
    assert seams[inside_patch].max() <= np.abs(np.diff(whole, axis=1)).max() + 2


def test_batches_and_devices_do_not_matter(workdir, tokenizer, photos):
    picture = photos[3][None, None]
    one = tokenizer.reconstructor.reconstruct(picture, draws_B3=None)
    eight = vitok_jax.load(workdir, settings=tiny.settings())
    assert (
        np.abs(eight.reconstructor.reconstruct(picture, draws_B3=None) - one.astype(int)).max() <= 1
    )


def test_samples_depend_on_seed_and_picture_only(tokenizer, photos):
    pair = np.stack([photos[1], photos[2]])[:, None]
    path = tokenizer.reconstructor
    both = path.encode(pair, draws_B3=codec.draws(3, np.array([10, 11])))
    second = path.encode(pair[1:], draws_B3=codec.draws(3, np.array([11])))
    np.testing.assert_allclose(second[0], both[1], atol=1e-5)
    other = path.encode(pair[1:], draws_B3=codec.draws(4, np.array([11])))
    mode = path.encode(pair[1:], draws_B3=None)
    assert np.abs(other - second).max() > 0.1
    assert np.abs(mode - second).max() > 0.1
    tiled = path.encode(photos[3][None, None], draws_B3=codec.draws(3, np.array([11])))
    assert np.isfinite(tiled).all()


def test_rounding_is_to_the_nearest_with_halves_to_even():
    levels = np.arange(256, dtype=np.uint8)
    exact = codec.from_unit(codec.to_unit(jnp.asarray(levels)), "uint8")
    np.testing.assert_array_equal(exact, levels)
    values = jnp.asarray([-1.5, -1.0, 0.0, 1.0, 1.5])
    np.testing.assert_array_equal(codec.from_unit(values, "uint8"), [0, 0, 128, 255, 255])
    np.testing.assert_array_equal(codec.from_unit(values, "float32"), [-1, -1, 0, 1, 1])


def test_the_padding_is_the_pictures_own_reflection():
    coder = Identity()
    seen = []
    coder.encode = lambda params, pixels, draws: (
        seen.append(np.asarray(pixels)) or Identity.encode(Identity(), params, pixels, draws)
    )
    picture = np.random.default_rng(0).integers(0, 256, (1, 1, 13, 16, 3), np.uint8)
    path_of(coder, side=32).reconstruct(picture, draws_B3=None)
    np.testing.assert_array_equal(seen[0][0, 0], padding.reflect(picture[0, 0], (16, 16)))
