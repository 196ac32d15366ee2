"""Metrics of a picture against its own reconstruction: PSNR, SSIM, MS-SSIM, LPIPS, DISTS."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitok_jax import errors
from vitok_jax.backbones import weights
from vitok_jax.metrics import devices, dists, image_quality, lpips
from vitok_jax.metrics import metric as metric_lib

# Pixels of one call on one device: bounds the memory of VGG16's first maps to about 1 GB.
_PIXELS_PER_CALL = 2**20


@dataclasses.dataclass(frozen=True)
class PairedMetric:
    """Mean over pictures of a number per picture; see `metric.Metric`.

    Attributes:
      name: in the registry.
      look: what pictures `[n, h, w, 3]`, uint8, of either side become before they are compared; of
        references once, however many candidates there are.
      compare: from both sides after `look` to `[n]` numbers.
      better: which direction is better.
      clip: how the frames of a video become one number: `whole` hands over the video as one
        example, `frames` averages over frames.
      conditions: what exactly is computed.
    """

    name: str
    look: Callable[[Any], Any]
    compare: Callable[[Any, Any], Any]
    better: Literal["higher", "lower"]
    clip: Literal["whole", "frames"]
    conditions: dict[str, str]
    compares: Literal["pairs", "sets"] = dataclasses.field(default="pairs", init=False)
    takes: Literal["pictures", "clips"] = dataclasses.field(default="pictures", init=False)

    def init(self) -> metric_lib.State:
        """The state of nothing seen: a count and a sum."""
        return {"count": np.zeros((), np.int64), "sum": np.zeros((), np.float64)}

    def update(
        self,
        state: metric_lib.State,
        reference: UInt8[np.ndarray, "b ..."] | None,
        candidate: UInt8[np.ndarray, "b ..."] | None,
        mask: Bool[np.ndarray, "b"],
        *,
        index: Int[np.ndarray, "b"] | None = None,
    ) -> metric_lib.State:
        """The state after one more batch; `index` plays no part in a mean."""
        del index
        if reference is None or candidate is None:
            raise errors.UsageError(f"{self.name}: compares pairs and needs both pictures of each")
        values_B = self.per_image(reference, candidate)[np.asarray(mask)]
        return {
            "count": state["count"] + values_B.size,
            "sum": state["sum"] + np.sum(values_B, dtype=np.float64),
        }

    def merge(self, first: metric_lib.State, second: metric_lib.State) -> metric_lib.State:
        """Counts and sums add up."""
        return {key: first[key] + second[key] for key in first}

    def compute(self, state: metric_lib.State) -> dict[str, float]:
        """The mean.

        Raises:
          UsageError: nothing was seen.
        """
        if state["count"] == 0:
            raise errors.UsageError(f"{self.name}: no picture was seen; allowed: 1 and more")
        return metric_lib.numbered(self.name, state["sum"] / state["count"])

    def per_image(
        self, reference: UInt8[np.ndarray, "b ..."], candidate: UInt8[np.ndarray, "b ..."]
    ) -> Float[np.ndarray, "b"]:
        """The number of each pair, float64.

        Raises:
          UsageError: shapes differ, are too small, or a number is not finite.
        """
        return self.per_image_of_each(reference, [candidate])[0]

    def per_image_of_each(
        self,
        reference: UInt8[np.ndarray, "b ..."],
        candidates: Sequence[UInt8[np.ndarray, "b ..."]],
    ) -> list[Float[np.ndarray, "b"]]:
        """The numbers of several candidates for the same references, float64 each.

        Raises:
          UsageError: shapes differ, are too small, or a number is not finite.
        """
        pictures = [np.asarray(batch) for batch in (reference, *candidates)]
        shape = pictures[0].shape
        for candidate in pictures:
            if candidate.shape != shape:
                raise errors.UsageError(
                    f"{self.name}: {shape} against {candidate.shape}; pairs have one shape"
                )
        if len(shape) == 5 and self.clip == "frames":
            pictures = [batch.reshape(-1, *shape[2:]) for batch in pictures]
        rows = _PIXELS_PER_CALL * 3 // int(np.prod(pictures[0].shape[1:]))
        values = devices.map_rows(self._run, *pictures, rows_per_device=rows)
        return [self._checked(np.asarray(v, np.float64).reshape(shape[0], -1)) for v in values]

    def _run(self, reference: Any, *candidates: Any) -> list[Any]:
        seen = self.look(reference)
        return [self.compare(seen, self.look(candidate)) for candidate in candidates]

    def _checked(self, values_BT: np.ndarray) -> np.ndarray:
        values_B = values_BT.mean(axis=1)
        if not np.all(np.isfinite(values_B)):
            first = int(np.argmin(np.isfinite(values_B)))
            raise errors.UsageError(
                f"{self.name}: not a finite number for example {first} of a batch"
            )
        return values_B


def psnr() -> PairedMetric:
    """PSNR in dB on [0, 255], per picture or over the whole of a clip."""
    return PairedMetric(
        "psnr",
        _as_it_is,
        functools.partial(image_quality.psnr, data_range=255),
        "higher",
        "whole",
        {
            "implementation": "10 log10(255^2 / MSE) per picture, then the mean",
            "clips": "MSE over T, H, W",
            "identical pictures": f"count as {image_quality.PSNR_LIMIT:g} dB, the most there is",
            "precision": "float32",
        },
    )


def ssim() -> PairedMetric:
    """SSIM on RGB, Gaussian window inside the picture."""
    return PairedMetric(
        "ssim",
        _as_it_is,
        functools.partial(image_quality.ssim, data_range=255),
        "higher",
        "frames",
        {
            "implementation": "Gaussian 11x11, sigma 1.5, valid, RGB channels averaged",
            "clips": "mean over frames",
            "precision": "float32",
        },
    )


def ms_ssim() -> PairedMetric:
    """Multi-scale SSIM on RGB."""
    return PairedMetric(
        "ms_ssim",
        _as_it_is,
        functools.partial(image_quality.ms_ssim, data_range=255),
        "higher",
        "frames",
        {
            "implementation": "five scales as in torchmetrics 1.9",
            "clips": "mean over frames",
            "precision": "float32",
        },
    )


def lpips_on(net: Literal["vgg", "alex"]) -> PairedMetric:
    """LPIPS v0.1 on VGG16 or AlexNet.

    Raises:
      UsageError: the weights are missing or damaged.
    """
    loaded = devices.replicate(lpips.load(net))
    return PairedMetric(
        f"lpips_{net}",
        lambda x: lpips.features(_signed(x), net=net, weights=loaded),
        functools.partial(lpips.distance, loaded),
        "lower",
        "frames",
        {
            "implementation": f"LPIPS v0.1, {net}",
            "clips": "mean over frames",
            "precision": "float32, highest",
            "weights_sha256": weights.sha256(f"lpips_{net}"),
        },
    )


def dists_on_vgg() -> PairedMetric:
    """DISTS on VGG16.

    Raises:
      UsageError: the weights are missing or damaged.
    """
    params = devices.replicate(dists.load())
    return PairedMetric(
        "dists",
        lambda x: dists.features(params, _unit(x)),
        functools.partial(dists.distance, params),
        "lower",
        "frames",
        {
            "implementation": "DISTS v0.1, pictures at their own size",
            "clips": "mean over frames",
            "precision": "float32, highest",
            "weights_sha256": f"{weights.sha256('lpips_vgg')}, {weights.sha256('dists')}",
        },
    )


def _as_it_is(x: Any) -> Any:
    return x


@jax.jit
def _unit(x: Any) -> Any:
    return x.astype(np.float32) / 255


@jax.jit
def _signed(x: Any) -> Any:
    return x.astype(np.float32) / 127.5 - 1
