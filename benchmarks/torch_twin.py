"""Encode and decode throughput of JAX and of the exported PyTorch module, and memory of an import.

  python benchmarks/torch_twin.py --variant=S-B/16 --size=256 --batch=4
  python benchmarks/torch_twin.py --memory_gb=2

Both run the same weights in the same process, in turns, so that what else the machine does hits
both alike; the fastest repetition of each counts. The second form makes a file in the layout of the
released ViTok-v2 weights, whose numbers are all zero, reads it in a process of its own by
`vitok_jax.load`, and tells that process's largest resident memory.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli
from vitok_jax import config as config_lib
from vitok_jax.evaluation import codec
from vitok_jax.interop import folder, source, tensor_files, vitok_v2
from vitok_jax.models import tubelets, variants, vitok

_VARIANT = flags.DEFINE_string("variant", "S-B/16", "Model.")
_SIZE = flags.DEFINE_integer("size", 256, "Side of the pictures in pixels.")
_BATCH = flags.DEFINE_integer("batch", 4, "Pictures at once.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of matrix products.")
_DEVICE = flags.DEFINE_string("device", "cpu", "Of PyTorch: cpu or cuda.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Of each measurement.")
_MEMORY_GB = flags.DEFINE_float("memory_gb", 0.0, "Size of a file to import; 0 measures speed.")

# T of ViTok-v2 with fewer blocks: 5B's own widths, so that its largest tensors are in the file.
_BLOCK_NUMBERS = 4 * 3072**2 + 3 * 3072 * 8208
_PROBE = """
import json, resource, sys
import jax, vitok_jax
from vitok_jax import tokenizer
jax.devices()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = vitok_jax.load(sys.argv[1])
jax.block_until_ready(loaded.params)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"before": 1024 * before, "peak": 1024 * after, "what": repr(loaded)}))
"""


def speed() -> None:
    """Prints one line per direction."""
    import torch

    from vitok_jax.interop import modeling_vitok

    model_config = config_lib.ModelConfig(variant=_VARIANT.value, dtype=_DTYPE.value)
    params = vitok.init_params(vitok.build(model_config), jax.random.key(0))
    origin = source.Source(
        "", config_lib.TokenizerConfig(model=model_config), params, None, "raw", None
    )
    dtype = "float32" if _DTYPE.value == "float32" else "bf16"
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "out"
        folder.write(epath.Path(out), origin, part="all", dtype=dtype, card="", shard_bytes=10**12)
        network = modeling_vitok.ViTok.from_pretrained(str(out), device=_DEVICE.value)
    tubelet = variants.parse(_VARIANT.value).tubelet
    shape = (_BATCH.value, tubelet.frames, _SIZE.value, _SIZE.value, 3)
    pixels = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    ours = codec.Codec(model_config, part="all")
    grid = tubelets.grid_of(shape[1:4], tubelet)
    on_device = jnp.asarray(pixels)
    tokens = ours.encode(params, on_device)
    x = torch.from_numpy(pixels).movedim(-1, 1).contiguous().to(_DEVICE.value)
    with torch.inference_mode():
        z = network.encode(x).latent_dist.mode()

    def torch_run(function: Callable[[], object]) -> None:
        with torch.inference_mode():
            function()
        if _DEVICE.value == "cuda":
            torch.cuda.synchronize()

    turns = {
        "encode": (
            lambda: jax.block_until_ready(ours.encode(params, on_device)),
            lambda: torch_run(lambda: network.encode(x)),
        ),
        "decode": (
            lambda: jax.block_until_ready(ours.decode(params, tokens, grid=grid, kind="float32")),
            lambda: torch_run(lambda: network.decode(z)),
        ),
    }
    print(
        f"{_VARIANT.value}, {_BATCH.value} x {_SIZE.value}x{_SIZE.value}, {_DTYPE.value}, "
        f"{jax.devices()[0].device_kind} and {_DEVICE.value}, torch {torch.__version__}"
    )
    for name, pair in turns.items():
        jax_s, torch_s = _fastest(pair, _REPEATS.value)
        print(
            f"{name}: JAX {_BATCH.value / jax_s:.2f} pictures/s, PyTorch "
            f"{_BATCH.value / torch_s:.2f} pictures/s, ratio {torch_s / jax_s:.2f}"
        )


def _fastest(pair: tuple[Callable[[], object], ...], repeats: int) -> list[float]:
    """Seconds of each, by turns, after one call that does not count."""
    best = [float("inf")] * len(pair)
    for repeat in range(repeats + 1):
        for place, function in enumerate(pair):
            start = time.perf_counter()
            function()
            if repeat:
                best[place] = min(best[place], time.perf_counter() - start)
    return best


def memory() -> None:
    """Prints what an import takes beside what it reads."""
    depth = max(2, round(_MEMORY_GB.value * 1e9 / 4 / _BLOCK_NUMBERS))
    model = dataclasses.replace(vitok_v2.BASE, variant=f"v2:Td1-Td{depth - 1}/1x16x64")
    with tempfile.TemporaryDirectory() as scratch:
        size = sum(_zeros(pathlib.Path(scratch), half, model) for half in folder.HALVES)
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, scratch],
            check=True,
            capture_output=True,
            text=True,
            cwd=pathlib.Path(__file__).resolve().parents[1],
        )
    found = json.loads(done.stdout.splitlines()[-1])
    before, peak = found["before"], found["peak"]
    print(found["what"])
    print(
        f"files {size / 1e9:.2f} GB; resident before {before / 1e9:.2f} GB, at most "
        f"{peak / 1e9:.2f} GB: {peak / size:.2f} x the files, "
        f"the import {(peak - before) / size:.2f} x"
    )


def _zeros(out: pathlib.Path, half: str, model: config_lib.ModelConfig) -> int:
    """Writes one half of a released model, float32 zeros, as a file with a hole."""
    table = vitok_v2.layout_of(model, half, patch=16)
    names = vitok_v2.names_of(table, half)
    header, end = {}, 0
    for ours, shape in table.shapes.items():
        size = tensor_files.Spec(shape, np.dtype(np.float32)).nbytes
        header[names[ours]] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(out / f"{half}{tensor_files.SUFFIX}", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return 8 + len(text) + end


def main() -> None:
    """One of the two measurements."""
    if _MEMORY_GB.value:
        memory()
    else:
        speed()


if __name__ == "__main__":
    cli.run(main)
