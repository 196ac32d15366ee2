"""Principal components of patches: the best linear codec of a patch on its own."""

from collections.abc import Iterable
from typing import Literal

import einops
import numpy as np
from jaxtyping import Float, UInt8

from vitok_jax import errors
from vitok_jax.evaluation import padding, yardsticks

# Sums of squares about a value near the mean of photos lose fewer digits than about 0.
_SHIFT = 127.5


class Pca:
    """Projection of each tubelet on as many principal components as the latents have channels.

    The tubelets are those of the tokenizer: q frames of p x p pixels, three colours, on the same
    grid. Mean and covariance are float64 over all tubelets of the fitting clips.
    """

    name = "pca"
    unit: Literal["floats", "bytes"] = "floats"

    def __init__(
        self,
        budget: yardsticks.Budget,
        *,
        mean_P: Float[np.ndarray, "p"],
        components_PC: Float[np.ndarray, "p c"],
        fitted_on: str,
    ) -> None:
        self._budget = budget
        self.mean_P = mean_P
        self.components_PC = components_PC
        self.conditions: dict[str, str | int | float] = {
            "components": components_PC.shape[1],
            "tubelet": f"{budget.frames}x{budget.patch}x{budget.patch}x3",
            "fitted_on": fitted_on,
        }

    def code(self, clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> yardsticks.Coded:
        """The clip from the projections of its tubelets; odd sides padded as for a tokenizer."""
        padded = _pad(clip_THWC, self._budget)
        patches_NP = _patches(padded, self._budget) - self.mean_P
        coded_NC = patches_NP @ self.components_PC
        decoded_NP = coded_NC @ self.components_PC.T + self.mean_P
        clip = einops.rearrange(
            decoded_NP,
            "(t h w) (q py px c) -> (t q) (h py) (w px) c",
            t=padded.shape[0] // self._budget.frames,
            h=padded.shape[1] // self._budget.patch,
            q=self._budget.frames,
            py=self._budget.patch,
            px=self._budget.patch,
        )
        cropped = yardsticks.to_uint8(padding.crop(clip, clip_THWC.shape[:3]))
        return yardsticks.Coded(cropped, coded_NC.size)


def fit(
    clips: Iterable[UInt8[np.ndarray, "t h w 3"]], budget: yardsticks.Budget, *, described: str
) -> Pca:
    """Fits a PCA of tubelets in one pass; memory is that of the covariance.

    Args:
      clips: uint8 clips of any sizes; incomplete tubelets at their ends are left out, clips smaller
        than one tubelet are padded by reflection.
      budget: the tubelet and the number of components.
      described: the fitting set in words, for the conditions.

    Returns:
      The codec.

    Raises:
      UsageError: there are no clips.
    """
    size = budget.frames * budget.patch**2 * 3
    count, total_P, square_PP = 0, np.zeros(size), np.zeros((size, size))
    for clip in clips:
        patches_NP = _patches(_whole_tubelets(clip, budget), budget) - _SHIFT
        count += len(patches_NP)
        total_P += patches_NP.sum(0)
        square_PP += patches_NP.T @ patches_NP
    if not count:
        raise errors.UsageError(f"pca: {described} has no pictures to fit on")
    mean_P = total_P / count
    _, vectors_PP = np.linalg.eigh(square_PP / count - np.outer(mean_P, mean_P))
    kept = min(budget.channels, size)
    return Pca(
        budget,
        mean_P=mean_P + _SHIFT,
        components_PC=np.ascontiguousarray(vectors_PP[:, ::-1][:, :kept]),
        fitted_on=f"{described}, {count} tubelets",
    )


def _whole_tubelets(clip_THWC: np.ndarray, budget: yardsticks.Budget) -> np.ndarray:
    steps = (budget.frames, budget.patch, budget.patch)
    kept = [n // s * s for n, s in zip(clip_THWC.shape, steps, strict=False)]
    return padding.crop(clip_THWC, kept) if all(kept) else _pad(clip_THWC, budget)


def _pad(clip_THWC: np.ndarray, budget: yardsticks.Budget) -> np.ndarray:
    steps = (budget.frames, budget.patch, budget.patch)
    return padding.reflect(clip_THWC, padding.padded_lengths(clip_THWC.shape[:3], steps))


def _patches(clip_THWC: np.ndarray, budget: yardsticks.Budget) -> Float[np.ndarray, "n p"]:
    return einops.rearrange(
        clip_THWC,
        "(t q) (h py) (w px) c -> (t h w) (q py px c)",
        q=budget.frames,
        py=budget.patch,
        px=budget.patch,
    ).astype(np.float64)
