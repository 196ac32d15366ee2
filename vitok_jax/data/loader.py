"""From a plan of which records a batch holds to its pixels."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from vitok_jax import errors
from vitok_jax.data import crops, randomness, store, video, worker
from vitok_jax.data.plans import BatchPlan
from vitok_jax.data.schedule import BatchShape
from vitok_jax.data.unreadable import Unreadable

_SALT = 5
_REPLACEMENTS = 64
_AHEAD = 16
_NOTHING = BatchShape(1, 1, 1, 1)


class BatchLoader:
    """Reads, decodes and crops the pictures or clips of a plan; runs in workers.

    Args:
      pictures: where they are.
      crop: what is taken of each.
      on_unreadable: `replace` takes another picture of the same source in place of one that cannot
        be read, determined by its index; `mask` leaves black pixels and a mask of False.
    """

    def __init__(
        self,
        pictures: store.PictureStore,
        crop: crops.Crop,
        on_unreadable: Literal["replace", "mask"],
    ) -> None:
        self._pictures = pictures
        self._crop = crop
        self._on_unreadable = on_unreadable

    def __call__(self, plan: BatchPlan) -> dict[str, Any]:
        """Builds the batch; `report` is a JSON text of its step and what could not be read."""
        uniforms = self._crop.draw(plan)
        label = np.full(plan.shape.batch, -1, np.int32)
        index, mask = plan.index.copy(), plan.mask.copy()
        unreadable: list[Unreadable] = []
        pixels_BTHWC = new_pixels(plan.shape) if plan.shape.height else None
        places = np.flatnonzero(plan.mask).tolist()
        for i in places[:_AHEAD]:
            self._pictures.request(int(index[i]))
        for turn, i in enumerate(places):
            if turn + _AHEAD < len(places):
                self._pictures.request(int(index[places[turn + _AHEAD]]))
            frames, label[i], index[i] = self._example(plan, i, uniforms[i], unreadable)
            if not frames:
                mask[i] = False
                continue
            if pixels_BTHWC is None:
                pixels_BTHWC = new_pixels(BatchShape(1, len(frames), *frames[0].shape[:2]))
            for t, frame_HWC in enumerate(frames):
                pixels_BTHWC[i, t] = frame_HWC
        if pixels_BTHWC is None:
            pixels_BTHWC = new_pixels(_NOTHING)
        pixels_BTHWC[~mask] = 0
        report = {"step": plan.step, "unreadable": [dataclasses.astuple(u) for u in unreadable]}
        return {
            "pixels": pixels_BTHWC,
            "label": label,
            "index": index,
            "mask": mask,
            "report": json.dumps(report),
        }

    def _example(
        self, plan: BatchPlan, place: int, uniforms: np.ndarray, unreadable: list[Unreadable]
    ) -> tuple[list[video.Frame], int, int]:
        """Cropped frames, label and index of what is shown; no frames when nothing is."""
        index = int(plan.index[place])
        for candidate in self._candidates(index):
            try:
                picture = self._pictures.open(candidate)
                return self._crop(picture, plan.shape, uniforms), picture.label, candidate
            except (OSError, ValueError) as error:
                unreadable.append(self._describe(candidate, error))
            if self._on_unreadable == "mask":
                return [], -1, index
        raise errors.UsageError(
            f"data {self._pictures.records.spec}: {len(unreadable)} pictures tried in place of one "
            f"that is unreadable are unreadable too: {unreadable[-1].name} "
            f"({unreadable[-1].reason})"
        )

    def _candidates(self, index: int) -> Iterator[int]:
        """The record itself, then others of its source in an order that it determines."""
        yield index
        siblings = self._pictures.records.siblings(index)
        place = np.asarray([index - siblings.start])
        for turn in range(_REPLACEMENTS):
            yield siblings.start + int(randomness.permute(place, len(siblings), _SALT, turn)[0])

    def _describe(self, index: int, error: Exception) -> Unreadable:
        try:
            name = self._pictures.records[index].name
        except (OSError, ValueError):
            name = f"record {index}"
        return Unreadable(index=index, name=name, reason=str(error) or type(error).__name__)


def new_pixels(shape: BatchShape) -> UInt8[np.ndarray, "b t h w 3"]:
    """Room for a batch; in a worker it is shared with the trainer, which then copies nothing."""
    extent = (shape.batch, shape.frames, shape.height, shape.width, 3)
    return worker.shared_pixels(extent) if worker.inside() else np.empty(extent, np.uint8)
