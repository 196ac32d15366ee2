"""Encoder and decoder as StableHLO programs that run without this package (`jax.export`)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from jax import export as jax_export
from jaxtyping import Array, Float

from vitok_jax import config as config_lib
from vitok_jax import errors, files
from vitok_jax.interop import folder, source, tensor_files
from vitok_jax.models import shapes, tubelets, vitok

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAMS = {"encoder": "encode.stablehlo", "decoder": "decode.stablehlo"}

Weights = dict[str, Array]


def size_of(text: str | None, config: config_lib.TokenizerConfig) -> tuple[int, int, int]:
    """Frames, height and width of a program's input.

    Args:
      text: `HxW` or `TxHxW`; None takes the training's.
      config: of the tokenizer.

    Raises:
      UsageError: the text has another form, or the tubelet does not divide the size.
    """
    side, variant = config.data.size, shapes.check(config.model)
    text = f"{side}x{side}" if text is None else text
    numbers = text.split("x")
    if len(numbers) not in (2, 3) or not all(n.isdecimal() and int(n) for n in numbers):
        raise errors.UsageError(f"--size: {text!r} does not parse; allowed: HxW or TxHxW")
    frames = [max(config.data.frames, variant.tubelet.frames)] if len(numbers) == 2 else []
    t, h, w = [*frames, *map(int, numbers)]
    shapes.grid_of((t, h, w), variant.tubelet, config.model.time_attention)
    return t, h, w


def write_stablehlo(
    out: epath.Path, origin: source.Source, *, part: folder.Part, dtype: str, size: str | None
) -> None:
    """Writes programs and their weights into a folder.

    `encode.stablehlo` takes the tensors of `encoder.safetensors` as a dict and pixels
    [B, T, H, W, 3] in [-1, 1], and returns the mean of the posterior [B, t, h, w, C] and its
    log-variance (of the same shape, or None). `decode.stablehlo` takes the tensors of
    `decoder.safetensors` and latents. B is free, everything else fixed; they run on CPU, GPU, TPU.

    Args:
      out: the folder.
      origin: what is exported.
      part: which halves.
      dtype: of tensors and matrix products, `float32` or `bf16`.
      size: see `size_of`.

    Raises:
      UsageError: another type, or a size that does not fit.
    """
    if dtype == "fp16":
        raise errors.UsageError("--dtype: fp16 with --format=stablehlo; allowed: float32, bf16")
    precision: Any = "float32" if dtype == "float32" else "bfloat16"
    # The one implementation of attention that every platform has.
    model = dataclasses.replace(origin.config.model, dtype=precision, attention="xla")
    shape_thw = size_of(size, origin.config)
    for half in folder.parts(part):
        weights = _flat(origin.params[half], folder.TYPES[dtype])
        specs = {n: tensor_files.Spec(x.shape, x.dtype) for n, x in weights.items()}
        tensor_files.write(out, half, specs, weights.__getitem__, shard_bytes=1 << 62)
        files.write_bytes(out / PROGRAMS[half], _program(half, model, shape_thw, weights))


def _flat(params: dict[str, Any], dtype: np.dtype) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(params, sep="/")
    with np.errstate(over="ignore"):  # an infinity is an error of the writer
        return {name: np.asarray(leaf).astype(dtype) for name, leaf in sorted(flat.items())}


def _program(
    half: str,
    model: config_lib.ModelConfig,
    shape_thw: tuple[int, int, int],
    weights: dict[str, np.ndarray],
) -> bytes:
    variant = shapes.check(model)
    grid = shapes.grid_of(shape_thw, variant.tubelet, model.time_attention)
    encoder, decoder = vitok.build_encoder(model), vitok.build_decoder(model)

    def encode(weights: Weights, pixels_BTHWC: Float[Array, "b t h w 3"]) -> Any:
        inputs = tubelets.patchify(pixels_BTHWC, variant.tubelet, model.time_attention)
        found: Any = encoder.apply({"params": _nested(weights)}, inputs)

        def as_grid(x_BNC: Array) -> Array:
            return x_BNC.reshape(x_BNC.shape[0], grid.t, grid.h, grid.w, variant.channels)

        return jax.tree.map(as_grid, (found.mean, found.logvar))

    def decode(weights: Weights, latents_BthwC: Float[Array, "b t h w c"]) -> Array:
        tokens_BNC = latents_BthwC.reshape(latents_BthwC.shape[0], grid.tokens, -1)
        positions_N3 = jnp.asarray(shapes.positions_of(grid))
        positions_BN3 = jnp.broadcast_to(positions_N3, (*tokens_BNC.shape[:2], 3))
        given = tubelets.Latents(tokens=tokens_BNC, positions=positions_BN3)
        patches: Any = decoder.apply({"params": _nested(weights)}, given)
        return tubelets.unpatchify(patches, grid, variant.tubelet)

    (batch,) = jax_export.symbolic_shape("b")
    inputs = (batch, *shape_thw, 3)
    if half == "decoder":
        inputs = (batch, grid.t, grid.h, grid.w, variant.channels)
    function = encode if half == "encoder" else decode
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    lower = jax_export.export(jax.jit(function), platforms=PLATFORMS)
    exported = lower(abstract, jax.ShapeDtypeStruct(inputs, jnp.float32))
    return bytes(exported.serialize())


def _nested(weights: Weights) -> dict[str, Any]:
    return traverse_util.unflatten_dict(weights, sep="/")
