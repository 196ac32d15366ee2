"""What the seams between the windows of a long video cost, by how far windows overlap.

python benchmarks/seams.py --checkpoint=runs/demo-video --input=clips:heldout

For each overlap: PSNR over all frames, over those next to a seam (the first and the last frame of
a window, or the middle of an overlap) and over the others, and how far the change from one frame to
the next is from that of the input, at seams and elsewhere, in grey levels of 255.
"""

import dataclasses
import itertools
import pathlib
import sys

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli
from vitok_jax import config as config_lib
from vitok_jax.data import sources, video

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of a video tokenizer.")
INPUT = flags.DEFINE_string("input", "clips:heldout", "Source of the video; its first one counts.")
OVERLAPS = flags.DEFINE_list("overlaps", ["0", "0.25", "0.5"], "Shares of a window.")


def figures(frames: np.ndarray, made: np.ndarray, seams: list[int]) -> list[float]:
    """PSNR overall, at seams, elsewhere; error of changes at seams, elsewhere.

    Args:
      frames: of the input, uint8 [T, H, W, 3].
      made: their reconstructions.
      seams: a seam lies before each of these frames.
    """
    squares_T = np.square(frames.astype(np.float32) - made).mean(axis=(1, 2, 3))
    changes = [np.diff(clip.astype(np.float32), axis=0) for clip in (frames, made)]
    apart = np.abs(changes[0] - changes[1]).mean(axis=(1, 2, 3))
    near, across = np.zeros(len(frames), bool), np.zeros(len(frames) - 1, bool)
    for seam in seams:
        near[[seam - 1, seam]] = True
        across[seam - 1] = True
    parts = (squares_T, squares_T[near], squares_T[~near])
    psnrs = [10 * np.log10(255**2 / part.mean()) for part in parts]
    return [*map(float, psnrs), float(apart[across].mean()), float(apart[~across].mean())]


def main() -> None:
    """Prints a table."""
    cli.require("checkpoint")
    from vitok_jax import tokenizer
    from vitok_jax.evaluation import tiling

    opened = video.open_video(sources.Records(INPUT.value)[0].data)
    frames = np.stack(list(opened.every()))
    print(f"{INPUT.value}: {len(frames)} frames of {opened.size[0]}x{opened.size[1]}")
    print("| overlap | windows | PSNR | at seams | elsewhere | change at seams | elsewhere |")
    for overlap in map(float, OVERLAPS.value):
        settings = dataclasses.replace(config_lib.EvaluationConfig(), tile_overlap=overlap)
        loaded = tokenizer.load(CHECKPOINT.value, settings=settings)
        q = loaded.codec.variant.tubelet.frames
        at_once = loaded.config.data.frames // q
        plan = tiling.plan((-(-len(frames) // q),), limits=(at_once,), overlap=overlap)
        # The middle of an overlap is where one window hands over to the next.
        pairs = itertools.pairwise(start for (start,) in plan.starts)
        ends = [(before + at_once + after) * q // 2 for before, after in pairs]
        made = np.stack(list(loaded.long_video.reconstruct(iter(frames), len(frames))))
        row = figures(frames, made, ends)
        cells = [f"{overlap:g}", str(len(plan.starts)), *(f"{number:.2f}" for number in row)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    cli.run(main)
