"""Pictures for tests: real photos from an installed package, and noise."""

import numpy as np
from PIL import Image

from tests import required


def photo(name, side=None):
    """A photo of scikit-image as uint8 RGB, resized to a square when a side is given."""
    folder = required.folder("skimage") / "data"
    with Image.open(folder / name) as picture:
        rgb = picture.convert("RGB")
        return np.asarray(rgb if side is None else rgb.resize((side, side), Image.BICUBIC))


def noisy(image, strength, seed=0):
    """The picture with Gaussian noise of `strength` grey levels, uint8."""
    noise = np.random.default_rng(seed).normal(0, strength, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def signed(image_uint8):
    """uint8 pictures as float32 in [-1, 1]."""
    return image_uint8.astype(np.float32) / 127.5 - 1
