import io

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from vitok_jax.data import decode


def picture(height=12, width=20):
    """Smooth in both directions, unlike under every flip and turn."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / (width - 1), 255 * y / (height - 1)
    return np.stack([red, green, 128 - red / 2 + green / 4], -1).round().astype(np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def psnr(x, y):
    return -10 * np.log10(np.square(x.astype(float) - y).mean() / 255**2 + 1e-12)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_kinds_come_back_exactly(kind):
    want = picture()
    np.testing.assert_array_equal(decode.decode_image(saved(Image.fromarray(want), kind)), want)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_lossy_kinds_come_back_nearly(kind):
    want = picture(48, 64)
    options = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    got = decode.decode_image(saved(Image.fromarray(want), kind, **options))
    assert got.shape == want.shape
    assert got.dtype == np.uint8
    assert psnr(got, want) > 30


def test_progressive_and_grey_jpeg():
    want = picture(48, 64)
    progressive = saved(Image.fromarray(want), "JPEG", quality=95, progressive=True)
    assert psnr(decode.decode_image(progressive), want) > 30
    grey = np.asarray(Image.fromarray(want).convert("L"))
    got = decode.decode_image(saved(Image.fromarray(grey), "JPEG", quality=95))
    assert psnr(got, np.repeat(grey[..., None], 3, -1)) > 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind, orientation):
    upright = Image.fromarray(picture(40, 64))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = saved(stored, kind, exif=exif, **options)
    assert decode.Picture(data).size == upright.size
    assert psnr(decode.decode_image(data), np.asarray(upright)) > 30


def test_cmyk():
    want = picture(48, 64)
    for kind in ("JPEG", "TIFF"):
        got = decode.decode_image(saved(Image.fromarray(want).convert("CMYK"), kind))
        assert psnr(got, want) > 28


def test_palette_and_bilevel():
    want = picture()
    palette = Image.fromarray(want).quantize(256)
    got = decode.decode_image(saved(palette, "PNG"))
    np.testing.assert_array_equal(got, np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(want).convert("1")
    got = decode.decode_image(saved(bilevel, "PNG"))
    assert set(np.unique(got)) == {0, 255}


def test_transparency_is_laid_over_white():
    rgba = np.dstack([picture(), np.full((12, 20), 255, np.uint8)])
    rgba[:6, :, 3] = 0
    rgba[6:8, :, 3] = 51
    for kind in ("PNG", "TIFF"):
        got = decode.decode_image(saved(Image.fromarray(rgba), kind))
        assert (got[:6] == 255).all()
        np.testing.assert_array_equal(got[8:], picture()[8:])
        np.testing.assert_allclose(got[6:8], 0.8 * 255 + 0.2 * picture()[6:8], atol=1)
    grey_alpha = Image.fromarray(rgba).convert("LA")
    assert (decode.decode_image(saved(grey_alpha, "PNG"))[:6] == 255).all()


def test_transparent_colour_of_a_palette_and_of_rgb():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    got = decode.decode_image(saved(palette, "PNG", transparency=1))
    assert (got == 255).all()
    rgb = Image.new("RGB", (4, 4), (1, 2, 3))
    got = decode.decode_image(saved(rgb, "PNG", transparency=(1, 2, 3)))
    assert (got == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    deep = np.arange(0, 65_536, 256, dtype=np.uint16).reshape(16, 16)
    got = decode.decode_image(saved(Image.fromarray(deep), kind))
    np.testing.assert_array_equal(got[..., 0], np.round(deep / 257).astype(np.uint8))
    assert (got[..., 0] == got[..., 1]).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_allclose(decode.decode_image(data)[0, 0], (255, 0, 0), atol=2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_that_breaks_off_is_corrupt(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(decode.CorruptImage):
        decode.decode_image(data[: len(data) // 2])


def test_floats_have_no_white():
    data = saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(decode.CorruptImage, match="white"):
        decode.decode_image(data)


def test_programs_for_printers_are_no_pictures():
    with pytest.raises(decode.CorruptImage):
        decode.decode_image(saved(Image.fromarray(picture()), "EPS"))


@hypothesis.given(st.binary(max_size=300))
def test_foreign_bytes_are_corrupt(data):
    with pytest.raises(decode.CorruptImage):
        decode.decode_image(data)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.data())
def test_damaged_files_decode_or_are_corrupt(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
    good = bytearray(saved(Image.fromarray(picture(24, 24)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode.decode_image(bytes(good))
    except decode.CorruptImage:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3


@pytest.mark.parametrize("reduction", decode.REDUCTIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(64, 48), (61, 47)])
def test_reduced_pictures_are_the_averages_of_squares(kind, reduction, size):
    image = Image.fromarray(picture(size[1], size[0]))
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    reduced = decode.Picture(saved(image, kind, **options)).load(reduction=reduction)
    assert reduced.size == tuple(-(-side // reduction) for side in size)
    want = np.asarray(image.reduce(reduction))
    assert psnr(np.asarray(reduced), want) > 35
