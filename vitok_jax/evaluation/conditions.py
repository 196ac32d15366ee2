"""What stands with every figure: which pictures, how they were treated, what computed."""

from typing import Any

import jax

import vitok_jax
from vitok_jax import config as config_lib
from vitok_jax.data import sources
from vitok_jax.evaluation import pictures, results, scoreboard


def of_pictures(data: config_lib.DataConfig, opened: pictures.Pictures) -> dict[str, Any]:
    """Source, number and treatment of the pictures that are judged."""
    whole = data.eval_crop == "none"
    clips: dict[str, Any] = {}
    if sources.open_evaluation(data).medium == "video":
        where = f"{data.eval_clips} of each video, evenly spread"
        clips = {
            "clip_frames": data.frames,
            "clip_rate": f"{data.fps:g} fps" if data.fps else f"stride {data.stride}",
            "clips": where if data.eval_clips > 1 else "the first frames of each video",
        }
    resize = "short side to size, then centre crop; Pillow bilinear, antialiased"
    return {
        "pictures": opened.num,
        "data": data.eval,
        "data_fingerprint": opened.fingerprint,
        "crop": "none, whole pictures" if whole else f"center {data.size}",
        "resize": "none" if whole else resize,
        **clips,
    }


def of_decoding(settings: config_lib.EvaluationConfig) -> dict[str, Any]:
    """How a tokenizer's pictures come about."""
    sampled = settings.posterior == "sample"
    return {
        "rounding": "uint8, nearest, halves to even",
        "posterior": settings.posterior,
        **({"seed": settings.seed} if sampled else {}),
    }


def of_machine() -> dict[str, Any]:
    """What computed."""
    return {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "vitok_jax": vitok_jax.__version__,
    }


def describe(finished: scoreboard.Finished, reader: pictures.Reader) -> list[results.Picture]:
    """Name and size of every picture that was judged."""
    names = reader.names(finished.index)
    return [
        results.Picture(index, name, *size)
        for index, name, size in zip(finished.index, names, finished.sizes, strict=True)
    ]
