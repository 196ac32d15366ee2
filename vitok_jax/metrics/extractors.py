"""From uint8 pictures or clips to the features of frozen networks, each by its own protocol.

Networks run in float32 at the highest precision, split over the devices of the process. What an
extractor made of its last two batches is kept, known by their content: metrics that share one and
are handed the same batches one after another cost one pass.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vitok_jax import errors
from vitok_jax.backbones import efficientnet_lite, i3d, inception, resize, weights
from vitok_jax.metrics import devices

CLIP_FRAMES = 16
_KEPT = 2

Features = Mapping[str, Float[np.ndarray, "b d"]]


@dataclasses.dataclass
class Extractor:
    """One frozen network and its input protocol.

    Attributes:
      weights_name: its file in `backbones.weights`.
      takes: what an example is; a picture network takes the frames of a video one by one.
      prepare: from float32 pixels in [0, 255] to the network's input.
      network: from parameters and input to named features.
      params: on the devices.
      rows_per_device: examples of one call on one device.
      protocol: resize and normalisation, in words.
    """

    weights_name: str
    takes: Literal["pictures", "clips"]
    prepare: Callable[[Any], Any]
    network: Callable[[Any, Any], Any]
    params: Any
    rows_per_device: int
    protocol: str
    _recent: list[tuple[Any, Features]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """Compiles resizing apart from the network, whose input has one size for all pictures."""
        self._prepare = jax.jit(lambda pixels: self.prepare(pixels.astype(jnp.float32)))
        self._network = jax.jit(self._highest)

    @property
    def conditions(self) -> dict[str, str]:
        """What exactly is computed."""
        return {
            "features": self.protocol,
            "precision": "float32, highest; moments float64",
            "weights_sha256": weights.sha256(self.weights_name),
        }

    def __call__(self, batch: UInt8[np.ndarray, "b ..."]) -> Features:
        """Features of every example, float32.

        For a network of pictures the frames of a video are examples, in order.

        Raises:
          UsageError: too few frames, or features that are not finite.
        """
        batch = np.ascontiguousarray(batch)
        digest = batch.shape, hashlib.blake2b(batch.data, digest_size=16).digest()
        for seen, features in self._recent:
            if seen == digest:
                return features
        rows = self._rows(batch)
        features = devices.map_rows(self._run, rows, rows_per_device=self.rows_per_device)
        for name, values in features.items():
            if not np.all(np.isfinite(values)):
                raise errors.UsageError(f"{self.weights_name}: its {name} features are not finite")
        self._recent = [*self._recent, (digest, features)][-_KEPT:]
        return features

    def _rows(self, batch: np.ndarray) -> np.ndarray:
        if self.takes == "pictures":
            return batch if batch.ndim == 4 else batch.reshape(-1, *batch.shape[2:])
        frames = batch.shape[1] if batch.ndim == 5 else 1
        if frames < i3d.SHORTEST:
            raise errors.UsageError(
                f"a clip of {frames} frames is too short; allowed: {i3d.SHORTEST} and more"
            )
        return batch[:, :CLIP_FRAMES]

    def _run(self, rows: jax.Array) -> Any:
        return self._network(self.params, self._prepare(rows))

    def _highest(self, params: Any, inputs: jax.Array) -> Any:
        with jax.default_matmul_precision("highest"):
            outputs = self.network(params, inputs)
        return {name: value.reshape(len(value), -1) for name, value in outputs.items()}


@functools.cache
def extractor(name: Literal["inception", "efflite0", "i3d"]) -> Extractor:
    """The extractor of that name; made once in a process.

    Raises:
      UsageError: unknown name, or the weights are missing or damaged.
    """
    makers = {"inception": _inception, "efflite0": _efflite0, "i3d": _i3d}
    if name not in makers:
        raise errors.unknown("feature extractor", name, makers)
    return makers[name]()


def inception_from(params: Any, *, rows_per_device: int = 16) -> Extractor:
    """The FID extractor with given parameters of `inception.Inception`."""

    def prepare(pixels: jax.Array) -> jax.Array:
        return (resize.tf1_bilinear(pixels, inception.SIDE) - 128) / 128

    def network(params: Any, inputs: jax.Array) -> Any:
        outputs: Any = inception.Inception().apply({"params": params}, inputs)
        return {
            "pool": outputs.pool,
            "spatial": outputs.spatial,
            "logits": outputs.unbiased_logits,
        }

    protocol = "Inception 2015-12-05, uint8 to 299 by TF1 bilinear, (x - 128) / 128"
    return Extractor(
        "inception", "pictures", prepare, network, devices.replicate(params), rows_per_device,
        protocol,
    )  # fmt: skip


def _inception() -> Extractor:
    return inception_from(inception.load())


def _efflite0() -> Extractor:
    def prepare(pixels: jax.Array) -> jax.Array:
        return (resize.bicubic(pixels, efficientnet_lite.SIDE) - 127) / 128

    def network(params: Any, inputs: jax.Array) -> Any:
        outputs: Any = efficientnet_lite.EfficientNetLite0().apply({"params": params}, inputs)
        return {"pool": outputs.pool, "logits": outputs.logits}

    protocol = "EfficientNet-Lite0, uint8 to 224 by antialiased bicubic, (x - 127) / 128"
    params = devices.replicate(efficientnet_lite.load())
    return Extractor("efflite0", "pictures", prepare, network, params, 32, protocol)


def _i3d() -> Extractor:
    def prepare(clips: jax.Array) -> jax.Array:
        frames = clips.reshape(-1, *clips.shape[2:])
        resized = resize.bilinear_crop(frames, i3d.SIDE) / 127.5 - 1
        return resized.reshape(*clips.shape[:2], *resized.shape[1:])

    def network(params: Any, inputs: jax.Array) -> Any:
        return {"logits": i3d.I3D().apply({"params": params}, inputs)}

    protocol = (
        f"I3D Kinetics-400 RGB logits, first {CLIP_FRAMES} frames, short side to 224 by bilinear "
        "and centre crop, [-1, 1]"
    )
    return Extractor("i3d", "clips", prepare, network, devices.replicate(i3d.load()), 2, protocol)
