"""What is taken of a picture or clip: a random crop in training, the centre or all of it else.

All frames of a clip are cropped and flipped alike.
"""

import numpy as np
from jaxtyping import Bool, Float

from vitok_jax import config
from vitok_jax.data import clips, randomness, transforms, video
from vitok_jax.data.plans import BatchPlan
from vitok_jax.data.schedule import BatchShape
from vitok_jax.data.store import OpenPicture

_SALT = 4
# Behind those of box and flip: where a clip lies in its video.
_UNIFORMS = transforms.UNIFORMS + 1

Example = OpenPicture | clips.OpenVideo


class TrainingCrop:
    """A random crop and flip, drawn from (seed, epoch, index)."""

    def __init__(self, settings: config.DataConfig, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def draw(self, plan: BatchPlan) -> Float[np.ndarray, "b 24"]:
        """Uniform numbers for every example of a batch."""
        key = (_SALT, self._seed, plan.epoch, plan.index)
        return randomness.uniforms(_UNIFORMS, *key)

    def __call__(
        self, example: Example, shape: BatchShape, uniforms: Float[np.ndarray, " 24"]
    ) -> list[video.Frame]:
        """The augmented crop of a picture or of each frame of a clip."""
        *of_crop, place = uniforms
        box = self._box(example.size, shape, np.asarray(of_crop))
        if isinstance(example, clips.OpenVideo):
            place = place if self._settings.clip_offset == "random" else clips.FIRST
            frames = _clip(example, shape, box, place)
        else:
            frames = [self._picture(example, shape, box)]
        return [f[:, ::-1] for f in frames] if self._flips(uniforms) else frames

    def mirrored(self, plan: BatchPlan) -> Bool[np.ndarray, " b"]:
        """Which examples of a batch are shown mirrored."""
        return self._flips(self.draw(plan))

    def _flips(self, uniforms: Float[np.ndarray, "*b 24"]) -> Bool[np.ndarray, "*b"]:
        return uniforms[..., transforms.UNIFORMS - 1] < self._settings.flip

    def _picture(self, picture: OpenPicture, shape: BatchShape, box: transforms.Box) -> video.Frame:
        centred = self._settings.crop == "center"  # pixel for pixel the crop of evaluation
        reduction = 1 if centred else transforms.reduction_for(box, shape.width, shape.height)
        image = picture.load(reduction)
        crop = transforms.resize_box(image, box, reduction, shape.width, shape.height)
        return np.asarray(crop)

    def _box(
        self, size: tuple[int, int], shape: BatchShape, uniforms: Float[np.ndarray, " 23"]
    ) -> transforms.Box:
        chosen = self._settings
        if chosen.crop == "center":
            return transforms.centre_box(size, shape.width)
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
        self, example: Example, shape: BatchShape, uniforms: Float[np.ndarray, " 0"]
    ) -> list[video.Frame]:
        """The centre of a picture or of each frame of a clip."""
        del uniforms
        box = transforms.centre_box(example.size, shape.width)
        if isinstance(example, clips.OpenVideo):
            return _clip(example, shape, box, example.place)
        crop = transforms.resize_box(example.load(1), box, 1, shape.width, shape.height)
        return [np.asarray(crop)]


class WholePicture:
    """The picture as it is; the batch then has its size."""

    def draw(self, plan: BatchPlan) -> Float[np.ndarray, "b 0"]:
        """Nothing is random here."""
        return np.zeros((len(plan.index), 0))

    def __call__(
        self, example: Example, shape: BatchShape, uniforms: Float[np.ndarray, " 0"]
    ) -> list[video.Frame]:
        """All of a picture, or of the frames of a clip."""
        del uniforms
        if isinstance(example, clips.OpenVideo):
            return example.clip(shape.frames, example.place)
        return [np.asarray(example.load(1))]


def _clip(
    example: clips.OpenVideo, shape: BatchShape, box: transforms.Box, place: float
) -> list[video.Frame]:
    frames = example.clip(shape.frames, place)
    return [transforms.resize_frame(frame, box, shape.width, shape.height) for frame in frames]


Crop = TrainingCrop | CentreCrop | WholePicture
