"""The Python interface: kinds in and out, batching, halves, one compilation per shape."""

import doctest
import inspect

import jax
import numpy as np
import pytest

import vitok_jax
from tests.evaluation import tiny
from vitok_jax import errors
from vitok_jax import tokenizer as tokenizer_lib
from vitok_jax.models import tubelets


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_uint8_in_uint8_out(tokenizer, images):
    latents = tokenizer.encode(images)
    assert latents.tokens.shape == (5, 16, 12)
    assert latents.tokens.dtype == np.float32
    decoded = tokenizer.decode(latents)
    assert decoded.shape == images.shape
    assert decoded.dtype == np.uint8


def test_floats_in_floats_out_and_the_same_pictures(tokenizer, images):
    floats = images.astype(np.float32) / 127.5 - 1
    latents = tokenizer.encode(floats)
    decoded = tokenizer.decode(latents)
    assert decoded.dtype == np.float32
    assert np.abs(decoded).max() <= 1
    from_uint8 = tokenizer.decode(tokenizer.encode(images))
    np.testing.assert_allclose((decoded + 1) * 127.5, from_uint8, atol=0.51)


def test_other_float_types_and_jax_arrays(tokenizer, images):
    half = jax.numpy.asarray(images[:1], jax.numpy.bfloat16) / 127.5 - 1
    assert tokenizer.decode(tokenizer.encode(half)).dtype == np.float32
    np.testing.assert_array_equal(
        tokenizer.encode(jax.numpy.asarray(images)).tokens, tokenizer.encode(images).tokens
    )


def test_clips_keep_their_axis(tokenizer, images):
    clips = images[:2, None]
    decoded = tokenizer.decode(tokenizer.encode(clips))
    assert decoded.shape == clips.shape
    three = np.repeat(clips, 3, axis=1)
    assert tokenizer.encode(three).tokens.shape == (2, 48, 12)


def test_one_compilation_per_shape_and_an_exact_last_batch(workdir, images):
    settings = tiny.settings(pixels_per_device=2 * 32 * 32)  # two pictures a call
    small = vitok_jax.load(workdir, devices=jax.devices()[:1], settings=settings)
    latents = small.encode(images)  # 2 + 2 + 1
    decoded = small.decode(latents)
    assert small.codec.encode._cache_size() == 1
    assert small.codec.decode._cache_size() == 1
    small.encode(images[:2])
    assert small.codec.encode._cache_size() == 1
    small.encode(images[:, :16])
    assert small.codec.encode._cache_size() == 2
    whole = vitok_jax.load(workdir, devices=jax.devices()[:1])
    np.testing.assert_allclose(latents.tokens, whole.encode(images).tokens, atol=1e-5)
    assert np.abs(decoded.astype(int) - whole.decode(whole.encode(images))).max() <= 1


def test_eight_devices_equal_one(workdir, tokenizer, images):
    eight = vitok_jax.load(workdir)
    assert eight._rows.shards == 8
    np.testing.assert_allclose(
        eight.encode(images).tokens, tokenizer.encode(images).tokens, atol=1e-5
    )


def test_halves_load_alone(workdir, tokenizer, images):
    encoder = vitok_jax.load(workdir, part="encoder", devices=jax.devices()[:1])
    decoder = vitok_jax.load(workdir, part="decoder", devices=jax.devices()[:1])
    assert set(encoder.params) == {"encoder"}
    assert set(decoder.params) == {"decoder"}
    latents = encoder.encode(images)
    np.testing.assert_array_equal(latents.tokens, tokenizer.encode(images).tokens)
    np.testing.assert_array_equal(decoder.decode(latents), tokenizer.decode(latents))
    for half, action in ((decoder, half_encode), (encoder, half_decode)):
        with pytest.raises(errors.UsageError, match="part='all'"):
            action(half, images, latents)


def half_encode(half, images, latents):
    half.encode(images)


def half_decode(half, images, latents):
    half.decode(latents)


def test_weights_are_chosen(workdir, tokenizer):
    raw = vitok_jax.load(workdir, weights="raw", devices=jax.devices()[:1])
    averaged = vitok_jax.load(workdir, weights="ema", devices=jax.devices()[:1])
    first = jax.tree.leaves(raw.params)[-1]
    np.testing.assert_allclose(jax.tree.leaves(averaged.params)[-1], 0.5 * first)
    assert tokenizer.weights == averaged.weights == "ema"
    assert tokenizer.weights_sha256 == averaged.weights_sha256 != raw.weights_sha256


def test_bare_latents_decode_to_uint8_pictures(tokenizer, images):
    encoded = tokenizer.encode(images)
    bare = tubelets.Latents(tokens=encoded.tokens, positions=encoded.positions)
    np.testing.assert_array_equal(tokenizer.decode(bare), tokenizer.decode(encoded))


def test_any_size_reconstructs(tokenizer, photos):
    for picture in photos:
        done = tokenizer.reconstruct(picture[None])
        assert done.shape == (1, *picture.shape)
        assert done.dtype == np.uint8
    signed = photos[0][None].astype(np.float32) / 127.5 - 1
    floats = tokenizer.reconstruct(signed)
    np.testing.assert_allclose(
        (floats + 1) * 127.5, tokenizer.reconstruct(photos[0][None]), atol=0.51
    )
    assert tokenizer.route(32, 24) == "32x24: whole"
    assert tokenizer.route(31, 24) == "31x24: padded to 32x24 by reflection"
    assert tokenizer.route(40, 64) == "40x64: 6 overlapping tiles of 32x32, blended"


def test_repr_says_what_it_is(tokenizer, workdir):
    text = repr(tokenizer)
    for part in ("w32d1h1-w32d1h1/1x8x12", "12 floats", "16 to 32 px", "step 1", str(workdir)):
        assert part in text


def test_the_example_of_load_runs(workdir):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    example = inspect.getdoc(tokenizer_lib.load).replace("(2, 16, 16)", "(2, 16, 12)")
    names = {"workdir": workdir, "images": images}
    test = doctest.DocTestParser().get_doctest(example, names, "load", None, None)
    assert len(test.examples) >= 5
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize(
    "images, said",
    [
        (np.zeros((2, 30, 32, 3), np.uint8), "30x32 pixels .* multiples of 8"),
        (np.zeros((32, 32, 3), np.uint8), r"\[B, H, W, 3\]"),
        (np.zeros((1, 32, 32, 4), np.uint8), r"\[B, H, W, 3\]"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"\[B, H, W, 3\]"),
        (np.zeros((1, 32, 32, 3), np.int32), "int32.*uint8 or floats"),
        (np.full((1, 32, 32, 3), 255.0), r"up to 255.*\[-1, 1\]"),
        (np.full((1, 32, 32, 3), np.nan), r"nan.*\[-1, 1\]"),
    ],
)
def test_bad_images_are_one_line(tokenizer, images, said):
    with pytest.raises(errors.UsageError, match=said) as caught:
        tokenizer.encode(images)
    assert "\n" not in str(caught.value)


def test_bad_latents_are_one_line(tokenizer, images):
    latents = tokenizer.encode(images)
    with pytest.raises(errors.UsageError, match=r"\[B, N, 12\]"):
        tokenizer.decode(latents.replace(tokens=latents.tokens[..., :4]))
    with pytest.raises(errors.UsageError, match="raster order"):
        tokenizer.decode(latents.replace(positions=latents.positions[:, ::-1]))


def test_bad_folders_are_one_line(tmp_path, workdir):
    for path, arguments, said in (
        (tmp_path / "none", {}, "no such folder"),
        (tmp_path, {}, "holds no checkpoint"),
        (workdir, {"step": 7}, "checkpoint"),
        (workdir, {"part": "half"}, "allowed: all, encoder, decoder"),
        (workdir, {"weights": "emma"}, "did you mean 'ema'"),
    ):
        with pytest.raises(errors.UsageError, match=said) as caught:
            vitok_jax.load(path, **arguments)
        assert "\n" not in str(caught.value)
