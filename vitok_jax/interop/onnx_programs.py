"""Encoder and decoder as ONNX programs, by way of the PyTorch module."""

import importlib.util
import os
import pathlib
import tempfile
import warnings
from typing import Any

from etils import epath

from vitok_jax import errors, files
from vitok_jax.interop import folder, programs, source
from vitok_jax.models import shapes

_NEEDED = ("torch", "onnx", "onnxscript")
PROGRAMS = {"encoder": "encode.onnx", "decoder": "decode.onnx"}


def write_onnx(
    out: epath.Path, origin: source.Source, *, part: folder.Part, dtype: str, size: str | None
) -> None:
    """Writes `encode.onnx` and `decode.onnx`, each with its weights.

    `encode` maps `pixels` [batch, 3, H, W] (clips: [batch, 3, T, H, W]) to `mean`, and with the
    `kl` bottleneck `logvar`, [batch, C, h, w] (clips: [batch, C, t, h, w]); `decode` maps `latents`
    to `sample`. The batch is free, everything else fixed.

    Args:
      out: the folder, a local one.
      origin: what is exported.
      part: which halves.
      dtype: `float32`; nothing else runs everywhere.
      size: see `vitok_jax.interop.programs.size_of`.

    Raises:
      UsageError: a package is missing, another type, or a size that does not fit.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise errors.UsageError(
                f"--format=onnx needs the package {name}: pip install -r requirements-export.txt"
            )
    if dtype != "float32":
        raise errors.UsageError(f"--dtype: {dtype} with --format=onnx; allowed: float32")
    if "://" in os.fspath(out):
        raise errors.UsageError(f"{out}: --format=onnx writes to local folders only")
    shape_thw = programs.size_of(size, origin.config)
    with tempfile.TemporaryDirectory() as scratch:
        files.write_json(
            epath.Path(scratch) / folder.CONFIG, folder.describe(origin, part=part, dtype=dtype)
        )
        for half in folder.parts(part):
            folder.write_half(
                epath.Path(scratch),
                half,
                origin,
                dtype=folder.TYPES[dtype],
                shard_bytes=folder.SHARD_BYTES,
            )
            _convert(pathlib.Path(scratch), half, origin, shape_thw, out / PROGRAMS[half])


def _convert(
    scratch: pathlib.Path,
    half: str,
    origin: source.Source,
    shape_thw: tuple[int, int, int],
    path: epath.Path,
) -> None:
    import torch

    from vitok_jax.interop import modeling_vitok

    network: Any = modeling_vitok.ViTok.from_pretrained(str(scratch), part=half)
    variant = shapes.check(origin.config.model)
    t, h, w = shape_thw
    grid = shapes.grid_of(shape_thw, variant.tubelet, origin.config.model.time_attention)
    still = t == 1

    class Program(torch.nn.Module):
        """One half as a function of tensors alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, given: Any) -> Any:
            if half == "decoder":
                return self.network.decode(given, None if still else t).sample
            found = self.network.encode(given).latent_dist
            return found.mean if found.logvar is None else (found.mean, found.logvar)

    names = ["sample"] if half == "decoder" else ["mean", "logvar"]
    if origin.config.model.bottleneck != "kl":
        names = names[:1]
    shape = (3, h, w) if still else (3, t, h, w)
    if half == "decoder":
        shape = (variant.channels, *((grid.h, grid.w) if still else (grid.t, grid.h, grid.w)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13.0 warns of its own use of its own functions
        made: Any = torch.onnx.export(
            Program().eval(),
            (torch.zeros(2, *shape),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["latents" if half == "decoder" else "pixels"],
            output_names=names,
            verbose=False,
        )
    made.save(os.fspath(path))
