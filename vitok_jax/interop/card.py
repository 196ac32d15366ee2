"""The model card of an exported folder: what it is, how to use it, what it was measured at."""

import json
from typing import Any

from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.interop import source
from vitok_jax.models import cost, shapes

_HEAD = """---
library_name: vitok_jax
tags:
- image-tokenizer
- autoencoder
---

# {variant}

A tokenizer of {what}: {tubelet} become one token of {channels} numbers. {params:,} parameters.

"""
_USE = {
    "torch": """## Use

PyTorch, with `torch` and `safetensors` alone:

```python
import torch
from modeling_vitok import ViTok  # from this folder

model = ViTok.from_pretrained(".")
x = torch.zeros({shape})  # in [-1, 1]
z = model.encode(x).latent_dist.mode()
y = model.decode(z).sample
```

JAX:

```python
import vitok_jax

tokenizer = vitok_jax.load(".")
```
""",
    "stablehlo": """## Use

With `jax`, `numpy` and `safetensors` alone; on a CPU, a GPU or a TPU. The batch is free, the rest
of the shape (`size` in `config.json`) fixed:

```python
import jax.export
import numpy as np
from safetensors.numpy import load_file

encode = jax.export.deserialize(open("encode.stablehlo", "rb").read())
mean, logvar = encode.call(load_file("encoder.safetensors"), pixels)  # [B, T, H, W, 3] in [-1, 1]
decode = jax.export.deserialize(open("decode.stablehlo", "rb").read())
pixels = decode.call(load_file("decoder.safetensors"), mean)  # [B, t, h, w, C]
```
""",
    "onnx": """## Use

The batch is free, the rest of the shape (`size` in `config.json`) fixed:

```python
import onnxruntime

encode = onnxruntime.InferenceSession("encode.onnx")
mean = encode.run(["mean"], {{"pixels": pixels}})[0]  # [B, 3, H, W] in [-1, 1]
decode = onnxruntime.InferenceSession("decode.onnx")
pixels = decode.run(["sample"], {{"latents": mean}})[0]
```
""",
}
_RUN = ("data", "loss", "optimizer", "training")


def text(origin: source.Source, *, kind: str, metrics: str) -> str:
    """The card.

    Args:
      origin: what is exported.
      kind: `torch`, `stablehlo` or `onnx`.
      metrics: section about measurements, see `measured`.
    """
    model = origin.config.model
    variant = shapes.check(model)
    q, p = variant.tubelet.frames, variant.tubelet.patch
    frame = (q, p, p)
    use = _USE[kind].format(
        shape=f"1, 3, {q}, {8 * p}, {8 * p}" if q > 1 else f"1, 3, {8 * p}, {8 * p}"
    )
    head = _HEAD.format(
        variant=variant.name,
        what="videos" if q > 1 else "pictures",
        tubelet=f"{p}x{p} pixels" + (f" of {q} frames" if q > 1 else ""),
        channels=variant.channels,
        params=cost.cost(model, frame).params,
    )
    sections = [head, use, "## Architecture\n", _table(config_lib.to_dict(model))]
    sections += ["## Latents\n", _latents(origin.latent_stats)]
    sections += ["## Training\n", _training(origin), "## Metrics\n", metrics]
    return "\n".join(sections)


def measured(path: epath.PathLike, sha256: str) -> str:
    """The figures and conditions of an evaluation of the very same weights.

    Args:
      path: a `result.json` of `vitok_jax.evaluate`, or the folder that holds one.
      sha256: of the weights that are exported.

    Raises:
      UsageError: there is no such file, it is no result, or it judges other weights.
    """
    path = epath.Path(path)
    path = path / "result.json" if path.is_dir() else path
    try:
        result = json.loads(path.read_text())
        candidates, conditions = result["candidates"], result["conditions"]
        columns = result["metrics"]
        same = [c for c in candidates if c["conditions"].get("weights_sha256") == sha256]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.UsageError(f"{path}: is no result of vitok_jax.evaluate ({error})") from error
    if not same:
        raise errors.UsageError(f"{path}: judges other weights than those with sha256 {sha256}")
    lines = ["| metric | value | computed by |", "|---|---:|---|"]
    for column in columns:
        value = same[0]["means"][column["name"]]
        shown = "-" if value is None else f"{value:.{column['digits']}f} {column['unit']}".strip()
        lines.append(f"| {column['label']} | {shown} | {column['implementation']} |")
    lines.append("")
    both = {**conditions, **same[0]["conditions"]}
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in both.items() if key != "path"]
    return "\n".join(lines) + "\n"


def not_measured() -> str:
    """The section where no evaluation was named."""
    return "None were given at export (`--result`); `vitok_jax.evaluate` measures them.\n"


def _latents(stats: dict[str, Any] | None) -> str:
    if stats is None:
        return "No statistics were measured.\n"
    rows = zip(stats["mean"], stats["std"], strict=True)
    lines = [f"Of the posterior's mode over {stats['pictures']} training pictures.\n"]
    lines += ["| channel | mean | standard deviation |", "|---:|---:|---:|"]
    lines += [f"| {i} | {mean:.4f} | {std:.4f} |" for i, (mean, std) in enumerate(rows)]
    return "\n".join(lines) + "\n"


def _training(origin: source.Source) -> str:
    if origin.step is None:
        return "The format that these weights came in does not tell.\n"
    run = config_lib.to_dict(origin.config)
    lines = [f"Step {origin.step}, {origin.weights} weights, seed {run['seed']}.\n"]
    for section in _RUN:
        lines += [f"### {section}\n", _table(run[section])]
    return "\n".join(lines)


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {key} | {value} |" for key, value in values.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows]) + "\n"
