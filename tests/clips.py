"""Video clips for tests, read as files of an installed package."""

import importlib.util
import pathlib

import numpy as np
from PIL import Image

from tests import required

_PACKAGE = "comfyui_workflow_templates_media_video"
SURFING = "api_runway_aleph2_video_edit-1.webp"


def clip(name, frames=16):
    """The first frames of an animated picture, uint8 [T, H, W, 3]."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        required.missing(f"the clips of {_PACKAGE.replace('_', '-')} are not installed")
    path = pathlib.Path(spec.origin).parent / "templates" / name
    with Image.open(path) as picture:
        taken = []
        for index in range(frames):
            picture.seek(index)
            taken.append(np.asarray(picture.convert("RGB")))
    return np.stack(taken)
