import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from vitok_jax.data import decode, randomness, transforms

SIZES = st.tuples(st.integers(1, 900), st.integers(1, 900))


def resized(*arguments):
    return np.asarray(transforms.resize_box(*arguments))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@hypothesis.given(SIZES, st.integers(0, 2**31))
def test_random_boxes_lie_inside(size, seed):
    uniforms = randomness.uniforms(transforms.UNIFORMS, seed)[0]
    box = transforms.random_resized_box(size, uniforms, scale=(0.08, 1.0), ratio=(0.75, 4 / 3))
    assert 0 <= box.left < box.right <= size[0]
    assert 0 <= box.top < box.bottom <= size[1]


def test_random_boxes_have_the_area_and_ratio_asked_for():
    uniforms = randomness.uniforms(transforms.UNIFORMS, np.arange(3_000))
    boxes = [
        transforms.random_resized_box((600, 500), row, scale=(0.2, 0.5), ratio=(0.75, 4 / 3))
        for row in uniforms
    ]
    areas = np.asarray([box.width * box.height / 300_000 for box in boxes])
    ratios = np.asarray([box.width / box.height for box in boxes])
    assert areas.min() > 0.199
    assert areas.max() < 0.501
    assert areas.mean() == pytest.approx(0.35, abs=0.01)
    assert ratios.min() > 0.745
    assert ratios.max() < 1.34
    assert np.log(ratios).mean() == pytest.approx(0.0, abs=0.02)
    # Every place is reached, up to the edges.
    assert min(box.left for box in boxes) <= 2
    assert max(box.right for box in boxes) >= 598


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000)])
def test_a_picture_that_no_ratio_fits_gives_its_centre(size):
    uniforms = randomness.uniforms(transforms.UNIFORMS, 1)[0]
    box = transforms.random_resized_box(size, uniforms, scale=(0.8, 1.0), ratio=(0.75, 4 / 3))
    assert box.width / box.height == pytest.approx(4 / 3 if size[0] > 10 else 0.75, rel=0.1)
    assert abs(box.left + box.right - size[0]) <= 1
    assert abs(box.top + box.bottom - size[1]) <= 1


def resize_then_crop(image, side):
    """What torchvision's Resize(side) and CenterCrop(side) do to a Pillow picture."""
    width, height = image.size
    if width <= height:
        extent = (side, int(side * height / width))
    else:
        extent = (int(side * width / height), side)
    resized = image.resize(extent, Image.Resampling.BILINEAR)
    left, top = round((extent[0] - side) / 2.0), round((extent[1] - side) / 2.0)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (64, 64), (40, 90), (257, 256)])
def test_the_centre_equals_resizing_and_cropping(size):
    image = Image.fromarray(noise(size[1], size[0]))
    box = transforms.centre_box(image.size, 64)
    got = resized(image, box, 1, 64, 64)
    assert np.abs(got.astype(int) - resize_then_crop(image, 64)).max() <= 1


@hypothesis.given(SIZES, st.integers(1, 600))
def test_centre_boxes_lie_inside_and_are_square_on_the_grid(size, side):
    box = transforms.centre_box(size, side)
    assert -1e-6 <= box.left < box.right <= size[0] + 1e-6
    assert -1e-6 <= box.top < box.bottom <= size[1] + 1e-6
    assert max(box.width / size[0], box.height / size[1]) == pytest.approx(1.0)


def test_a_picture_of_the_right_size_is_untouched():
    pixels = noise(32, 32)
    box = transforms.centre_box((32, 32), 32)
    got = resized(Image.fromarray(pixels), box, 1, 32, 32)
    np.testing.assert_array_equal(got, pixels)


def test_small_pictures_grow():
    got = resized(Image.fromarray(noise(4, 5)), transforms.centre_box((5, 4), 64), 1, 64, 64)
    assert got.shape == (64, 64, 3)


def test_shrinking_averages_instead_of_picking():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    got = resized(Image.fromarray(stripes), transforms.Box(0, 0, 64, 64), 1, 16, 16)
    assert np.abs(got.astype(int) - 127).max() < 12


@pytest.mark.parametrize("reduction", decode.REDUCTIONS)
def test_reduction_starts_where_the_margin_allows(reduction):
    just = transforms.Box(0, 0, 2 * reduction * 32, 2 * reduction * 32)
    assert transforms.reduction_for(just, 32, 32) == reduction
    less = transforms.Box(0, 0, 2 * reduction * 32 - 1, 2 * reduction * 32)
    assert transforms.reduction_for(less, 32, 32) == max(1, reduction // 2 if reduction > 2 else 1)


def test_reduced_decoding_keeps_the_sharpness(shared_dir):
    photos = zipfile.ZipFile(shared_dir / "data/imagenet_photos_500.zip")
    energies = []
    for name in [n for n in photos.namelist() if n.endswith(".JPEG")][::100]:
        data = photos.read(name)
        size = decode.Picture(data).size
        box = transforms.Box(0, 0, min(size), min(size))
        side = min(size) // 8
        reduction = transforms.reduction_for(box, side, side)
        assert reduction == 4
        full = resized(decode.Picture(data).load(reduction=1), box, 1, side, side)
        image = decode.Picture(data).load(reduction=reduction)
        fast = resized(image, box, reduction, side, side)
        error = np.square(fast.astype(float) - full).mean()
        assert -10 * np.log10(error / 255**2) > 38
        energy = [np.square(np.diff(x.astype(float), axis=1)).mean() for x in (fast, full)]
        energies.append(energy[0] / energy[1])
    assert np.mean(energies) > 0.93


@hypothesis.given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seed=st.integers(0, 1000),
    side=st.integers(8, 64),
)
def test_native_box_lies_inside_and_keeps_the_scale(
    size: tuple[int, int], seed: int, side: int
) -> None:
    uniforms = np.random.default_rng(seed).random(transforms.UNIFORMS)
    box = transforms.native_box(size, uniforms, width=side, height=side, zoom=(1.0, 2.0))
    assert box.left >= 0 and box.top >= 0 and box.right <= size[0] and box.bottom <= size[1]
    assert abs(box.width - box.height) <= 1
    assert side <= box.width <= 2 * side or box.width == min(size) or box.height == min(size)


def test_native_crop_without_zoom_copies_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    uniforms = np.random.default_rng(1).random(transforms.UNIFORMS)
    box = transforms.native_box((50, 40), uniforms, width=16, height=16, zoom=(1.0, 1.0))
    left, top = int(box.left), int(box.top)
    crop = resized(Image.fromarray(pixels), box, 1, 16, 16)
    np.testing.assert_array_equal(crop, pixels[top : top + 16, left : left + 16])
