"""What is taken of a picture: a random crop in training, the centre or all of it in evaluation."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from vitok_jax import config
from vitok_jax.data import randomness, transforms
from vitok_jax.data.plans import BatchPlan
from vitok_jax.data.schedule import BatchShape
from vitok_jax.data.store import OpenPicture

_SALT = 4


class TrainingCrop:
    """A random crop and flip, drawn from (seed, epoch, index)."""

    def __init__(self, settings: config.DataConfig, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def draw(self, plan: BatchPlan) -> Float[np.ndarray, "b 23"]:
        """Uniform numbers for every example of a batch."""
        key = (_SALT, self._seed, plan.epoch, plan.index)
        return randomness.uniforms(transforms.UNIFORMS, *key)

    def __call__(
        self, picture: OpenPicture, shape: BatchShape, uniforms: Float[np.ndarray, " 23"]
    ) -> Image.Image:
        """The augmented crop of a picture."""
        box = self._box(picture.size, shape, uniforms)
        reduction = transforms.reduction_for(box, shape.width, shape.height)
        image = picture.load(reduction)
        crop = transforms.resize_box(image, box, reduction, shape.width, shape.height)
        if uniforms[-1] < self._settings.flip:
            return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return crop

    def _box(
        self, size: tuple[int, int], shape: BatchShape, uniforms: Float[np.ndarray, " 23"]
    ) -> transforms.Box:
        chosen = self._settings
        if chosen.crop == "native":
            return transforms.native_box(
                size, uniforms, width=shape.width, height=shape.height, zoom=chosen.crop_zoom
            )
        return transforms.random_resized_box(
            size, uniforms, scale=chosen.crop_scale, ratio=chosen.crop_ratio
        )


class CentreCrop:
    """Short side resized, centre cropped; always from the fully decoded picture."""

    def draw(self, plan: BatchPlan) -> Float[np.ndarray, "b 0"]:
        """Nothing is random here."""
        return np.zeros((len(plan.index), 0))

    def __call__(
        self, picture: OpenPicture, shape: BatchShape, uniforms: Float[np.ndarray, " 0"]
    ) -> Image.Image:
        """The centre of a picture."""
        del uniforms
        box = transforms.centre_box(picture.size, shape.width)
        return transforms.resize_box(picture.load(1), box, 1, shape.width, shape.height)


class WholePicture:
    """The picture as it is; the batch then has its size."""

    def draw(self, plan: BatchPlan) -> Float[np.ndarray, "b 0"]:
        """Nothing is random here."""
        return np.zeros((len(plan.index), 0))

    def __call__(
        self, picture: OpenPicture, shape: BatchShape, uniforms: Float[np.ndarray, " 0"]
    ) -> Image.Image:
        """All of a picture."""
        del shape, uniforms
        return picture.load(1)


Crop = TrainingCrop | CentreCrop | WholePicture
