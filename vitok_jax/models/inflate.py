"""Weights of an image tokenizer as the start of a video tokenizer.

A tubelet of q equal frames is encoded as the frame was: its kernel is that of the patch for each
frame, divided by q. Each frame of a decoded tubelet is the decoded patch. So an image, which is its
frame q times (`tubelets.patchify`), passes through the inflated model as through the image model;
and so does a still video of several tubelets where no rotary angle depends on time
(`positions=2d`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def inflate(params: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Stretches the layers next to the pixels to longer tubelets.

    Args:
      params: weights of `encoder`, `decoder` or both, as nested dicts of arrays.
      shapes: the same trees of the model to come; leaves have a `shape`.

    Returns:
      The weights; those that fit already, or are no whole multiple, as they were.
    """
    made = dict(params)
    for part, layer, along in (("encoder", "embed", 0), ("decoder", "pixels", 1)):
        if layer not in params.get(part, ()) or layer not in shapes.get(part, ()):
            continue
        kernel_IO = np.asarray(params[part][layer]["kernel"])
        wanted, rest = divmod(shapes[part][layer]["kernel"].shape[along], kernel_IO.shape[along])
        if rest or wanted < 2:
            continue
        stretched = dict(params[part][layer])
        if part == "encoder":
            stretched["kernel"] = np.tile(kernel_IO, (wanted, 1)) / wanted
        else:
            stretched["kernel"] = np.tile(kernel_IO, (1, wanted))
            stretched["bias"] = np.tile(np.asarray(stretched["bias"]), wanted)
        made[part] = {**params[part], layer: stretched}
    return made
