"""The report page: one HTML file that needs nothing beside it and no network."""

import base64
import concurrent.futures
import html
import importlib.resources
import io
import json
import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import einops
import numpy as np
from jaxtyping import UInt8
from PIL import Image

import vitok_jax
from vitok_jax import config as config_lib
from vitok_jax.evaluation import results as results_lib

# A picture is a clip of one frame.
Shown = dict[str, UInt8[np.ndarray, "t h w 3"]]
INPUT = "input"


def choose(results: results_lib.Results, count: int) -> list[int]:
    """Pictures worth looking at: mostly the worst, some from the middle, some of the best.

    Args:
      results: with one value per picture.
      count: how many; all when there are not more.

    Returns:
      Places in `results.pictures`, in the order in which they should be embedded.
    """
    order = results.worst_first()
    if len(order) <= count:
        return order
    few = count // 6
    middle = len(order) // 2 - few // 2
    chosen = order[: count - 2 * few] + order[-few:] * bool(few) + order[middle : middle + few]
    return list(dict.fromkeys(chosen))


def build(
    results: results_lib.Results,
    *,
    places: Sequence[int],
    pictures: Callable[[int], Shown],
    settings: config_lib.EvaluationConfig,
) -> str:
    """Writes the page.

    Args:
      results: the figures.
      places: which of `results.pictures` to embed, the most important first.
      pictures: gives the pixels of one of them: `input` and every candidate's clip by name.
      settings: bounds on what is embedded.

    Returns:
      HTML. Pictures are lossless WebP, so the differences shown are those that were measured. The
      frames of a clip lie in one picture, from which the page plays them.
    """
    data = _figures(results) | {"pictures": _embedded(places, pictures, settings)}
    files = importlib.resources.files("vitok_jax.evaluation")
    text = {name: (files / f"report.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    return string.Template(text["html"]).substitute(
        title=html.escape(results.title),
        style=text["css"],
        script=text["js"],
        # A file named "</script>" must not end the element it is data of.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _figures(results: results_lib.Results) -> dict[str, Any]:
    return {
        "title": results.title,
        "subtitle": _subtitle(results),
        "note": "Means over all pictures; the best figure of a column stands out.",
        "version": f"vitok_jax {vitok_jax.__version__}",
        "conditions": results.conditions,
        "metrics": [
            {
                "name": column.name,
                "label": column.label,
                "better": column.better,
                "scope": column.scope,
                "unit": column.unit,
                "digits": column.digits,
                "implementation": column.implementation,
            }
            for column in results.columns
        ],
        "candidates": [
            {
                "name": candidate.name,
                "kind": candidate.kind,
                "means": candidate.means,
                "conditions": candidate.conditions,
            }
            for candidate in results.candidates
        ],
        "rows": {
            "names": [picture.name for picture in results.pictures],
            "values": {
                candidate.name: {
                    name: [round(float(v), 5) for v in values]
                    for name, values in candidate.values.items()
                }
                for candidate in results.candidates
            },
        },
        "latents": [
            {
                "name": candidate.name,
                "mean": candidate.channels.mean.round(5).tolist(),
                "std": candidate.channels.std.round(5).tolist(),
            }
            for candidate in results.candidates
            if candidate.channels is not None
        ],
    }


def _subtitle(results: results_lib.Results) -> str:
    keys = ("crop", "posterior", "precision")
    known = [f"{key} {results.conditions[key]}" for key in keys if key in results.conditions]
    source = f" of {results.conditions['data']}" if "data" in results.conditions else ""
    return ", ".join([f"{len(results.pictures)} pictures{source}", *known])


def _embedded(
    places: Sequence[int],
    pictures: Callable[[int], Shown],
    settings: config_lib.EvaluationConfig,
) -> dict[int, dict[str, Any]]:
    budget = settings.report_megabytes * 1e6
    embedded: dict[int, dict[str, Any]] = {}
    for place in places:
        shown = pictures(place)
        frames, height, width = shown[INPUT].shape[:3]
        window = _centre(height, width, settings.report_side)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            coded = pool.map(_data_uri, [_sheet(pixels[:, *window]) for pixels in shown.values()])
        uris = dict(zip(shown, coded, strict=True))
        budget -= sum(len(uri) for uri in uris.values())
        if budget < 0 and embedded:
            break
        kept_height, kept_width = shown[INPUT][0, *window].shape[:2]
        whole = (kept_height, kept_width) == (height, width)
        cut = "" if whole else f", its central {kept_width} × {kept_height}"
        moving = "" if frames == 1 else f", {frames} frames"
        embedded[place] = {
            "width": kept_width,
            "height": kept_height,
            "frames": frames,
            "note": f"{width} × {height}{moving}{cut}",
            "input": uris.pop(INPUT),
            "outputs": uris,
        }
    return embedded


def _centre(height: int, width: int, side: int) -> tuple[slice, slice]:
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return slice(top, top + side), slice(left, left + side)


def _sheet(clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The frames of a clip in rows of as many as make it about square; black where none is left."""
    columns = math.ceil(math.sqrt(len(clip_THWC)))
    missing = -len(clip_THWC) % columns
    filled = np.pad(clip_THWC, [(0, missing), (0, 0), (0, 0), (0, 0)])
    return einops.rearrange(filled, "(r c) h w k -> (r h) (c w) k", c=columns)


def _data_uri(picture_HWC: UInt8[np.ndarray, "h w 3"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, "WEBP", lossless=True, method=1)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
