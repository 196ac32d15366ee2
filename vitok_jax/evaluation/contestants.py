"""Everything that turns pictures into other pictures and can stand in one table."""

import concurrent.futures
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from vitok_jax import config as config_lib
from vitok_jax.evaluation import codec as codec_lib
from vitok_jax.evaluation import devices, reconstruction, results, yardsticks

Batch = Mapping[str, np.ndarray]

# From the index of an original and the original itself to what stands for it.
Partners = Callable[[int, UInt8[np.ndarray, "t h w 3"]], UInt8[np.ndarray, "t h w 3"]]


@dataclasses.dataclass(frozen=True)
class Output:
    """What a contestant made of a batch.

    Attributes:
      pixels: uint8, the shape of the input.
      latents: `[B, t, h, w, C]` where there are any.
      extras: further numbers per picture, by name, for the contestant's own conditions.
    """

    pixels: UInt8[np.ndarray, "b t h w 3"]
    latents: Float[np.ndarray, "b t2 h2 w2 c"] | None = None
    extras: dict[str, Float[np.ndarray, "b"]] = dataclasses.field(default_factory=dict)


class Contestant(Protocol):
    """One row of the table to come.

    Attributes:
      name: unique in the table.
      kind: checkpoint, yardstick or folder.
    """

    name: str
    kind: results.CandidateKind

    def reconstruct(self, batch: Batch) -> Output:
        """Reconstructions of a batch, padding included, in its order."""

    def conditions(
        self, shapes: Counter[tuple[int, int, int]], extras: dict[str, Float[np.ndarray, "n"]]
    ) -> dict[str, Any]:
        """What was done exactly.

        Args:
          shapes: how many pictures or clips there were of each (height, width, frames).
          extras: those of all outputs.
        """


class Model:
    """A tokenizer, by the path of `reconstruct`."""

    kind: results.CandidateKind = "checkpoint"

    def __init__(
        self,
        name: str,
        path: reconstruction.Reconstructor,
        *,
        settings: config_lib.EvaluationConfig,
        origin: dict[str, Any],
    ) -> None:
        """Takes the path that pictures go, and what is known of the weights."""
        self.name = name
        self._path = path
        self._settings = settings
        self._origin = origin

    def reconstruct(self, batch: Batch) -> Output:
        """Encodes and decodes."""
        pixels = batch["pixels"]
        draws = None
        if self._settings.posterior == "sample":
            draws = codec_lib.draws(self._settings.seed, batch["index"])
        latents = self._path.encode(pixels, draws_B3=draws)
        shape_THW = pixels.shape[1:4]
        return Output(self._path.decode(latents, shape_THW=shape_THW, kind="uint8"), latents)

    def conditions(
        self, shapes: Counter[tuple[int, int, int]], extras: dict[str, Float[np.ndarray, "n"]]
    ) -> dict[str, Any]:
        """Where the weights come from, how many floats latents hold, what was padded or tiled."""
        del extras
        routes = {(h, w, t): self._path.route((t, h, w)) for h, w, t in shapes}
        total = sum(shapes.values())
        floats = sum(n * self._path.floats((t, h, w)) for (h, w, t), n in shapes.items())
        tiled = sum(n for shape, n in shapes.items() if routes[shape].is_tiled)
        padded = sum(n for shape, n in shapes.items() if routes[shape].is_padded)
        side, overlap = self._path.side, self._settings.tile_overlap
        return {
            **self._origin,
            "posterior": self._settings.posterior,
            "latent_floats": f"{floats / total:g} per picture",
            "padded_by_reflection": f"{padded} of {total}",
            "tiled": f"{tiled} of {total}, tiles of at most {side} px, overlap {overlap:g}",
        }


class InTraining:
    """The model of a running training, to be bound to the parameters of the moment."""

    def __init__(
        self,
        config: config_lib.TokenizerConfig,
        rows: devices.Rows,
        settings: config_lib.EvaluationConfig,
    ) -> None:
        """Takes the mesh that the parameters lie on."""
        self._config = config
        self._codec = codec_lib.Codec(config.model, part="all")
        self._rows = rows
        self._settings = settings

    def bind(self, state: Any) -> Model:
        """The contestant of a `TrainState`: averaged weights where the run keeps an average."""
        params = {**state.params, **state.ema_params}
        sides = codec_lib.trained_sides(self._config.data)
        path = reconstruction.Reconstructor(
            codec_lib.Bound(self._codec, params, sides, self._config.data.frames),
            self._rows,
            settings=self._settings,
        )
        return Model(self._config.model.variant, path, settings=self._settings, origin={})


class Codec:
    """A yardstick; its clips are coded in parallel threads."""

    kind: results.CandidateKind = "yardstick"

    def __init__(self, yardstick: yardsticks.Yardstick, *, name: str) -> None:
        """Takes the yardstick, and its name in the table."""
        self.name = name
        self._yardstick = yardstick
        self._pool = concurrent.futures.ThreadPoolExecutor()

    def reconstruct(self, batch: Batch) -> Output:
        """Codes and decodes every clip that is not padding."""
        coded = list(self._pool.map(self._one, batch["pixels"], batch["mask"]))
        costs = np.array([one.cost for one in coded], np.float64)
        return Output(np.stack([one.clip for one in coded]), extras={self._yardstick.unit: costs})

    def conditions(
        self, shapes: Counter[tuple[int, int, int]], extras: dict[str, Float[np.ndarray, "n"]]
    ) -> dict[str, Any]:
        """What the yardstick says of itself, and its mean cost."""
        del shapes
        unit = self._yardstick.unit
        return {**self._yardstick.conditions, f"mean_{unit}": f"{extras[unit].mean():g}"}

    def _one(self, clip_THWC: np.ndarray, counts: np.ndarray) -> yardsticks.Coded:
        if not counts:
            return yardsticks.Coded(clip_THWC, 0)
        return self._yardstick.code(clip_THWC)


class Folder:
    """Pictures that somebody else made, looked up by the index of the original."""

    kind: results.CandidateKind = "folder"

    def __init__(self, name: str, partners: Partners, *, origin: dict[str, Any]) -> None:
        """Takes what gives the partner of an original."""
        self.name = name
        self._partners = partners
        self._origin = origin
        self._pool = concurrent.futures.ThreadPoolExecutor()

    def reconstruct(self, batch: Batch) -> Output:
        """Reads the partner of every picture that is not padding."""
        found = self._pool.map(self._one, batch["pixels"], batch["index"], batch["mask"])
        return Output(np.stack(list(found)))

    def conditions(
        self, shapes: Counter[tuple[int, int, int]], extras: dict[str, Float[np.ndarray, "n"]]
    ) -> dict[str, Any]:
        """Which folder."""
        del shapes, extras
        return self._origin

    def _one(self, original_THWC: np.ndarray, index: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return self._partners(int(index), original_THWC) if counts else original_THWC


class Itself:
    """A folder whose pictures have no originals beside them: they are what is read."""

    kind: results.CandidateKind = "folder"

    def __init__(self, name: str, *, origin: dict[str, Any]) -> None:
        """Takes what is known of the folder."""
        self.name = name
        self._origin = origin

    def reconstruct(self, batch: Batch) -> Output:
        """The pictures as they are."""
        return Output(batch["pixels"])

    def conditions(
        self, shapes: Counter[tuple[int, int, int]], extras: dict[str, Float[np.ndarray, "n"]]
    ) -> dict[str, Any]:
        """Which folder."""
        del shapes, extras
        return self._origin
