"""Exported diffusion transformers: weights, the sampler's settings and the tokenizer's decoder."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import files
from vitok_jax.diffusion import flow
from vitok_jax.interop import folder, layout, source, tensor_files
from vitok_jax.models import dit_shapes, shapes
from vitok_jax.tasks import dit

KIND = "dit"
STEM = "transformer"
MODULE = "modeling_dit.py"

_CARD = """---
library_name: vitok_jax
tags:
- image-generation
---

# Diffusion transformer {size} over {variant}

## Use

```python
import torch
from modeling_dit import Generator  # from this folder

generator = Generator.from_pretrained(".")
pixels = generator.sample(torch.tensor([0, 1]))  # in [-1, 1]
```

Step {step}, {weights} weights. The settings of the run are in `config.json`.
"""


def table() -> Sequence[layout.Entry]:
    """The tensors of a transformer; see `vitok_jax.interop.layout`."""
    both = layout.linear
    return [
        *both("condition.time_in", "condition/time_in"),
        *both("condition.time_out", "condition/time_out"),
        layout.Entry("condition.labels.weight", ("condition/labels",), inputs=layout.AS_IT_IS),
        *both("embed", "embed"),
        *both("modulation", "modulation"),
        *both("blocks.{}.modulation", "blocks/modulation"),
        *layout.blocks("blocks"),
        *both("final.modulation", "final/modulation"),
        *both("final.output", "final/output"),
    ]


def write(
    out: epath.Path,
    task: dit.DitTask,
    params: dict[str, Any],
    tokenizer: source.Source,
    *,
    dtype: str,
    shard_bytes: int,
    step: int,
    weights: str,
) -> None:
    """Writes a folder for PyTorch, whole or not at all.

    Args:
      out: a folder that does not exist yet.
      task: of the run.
      params: of the transformer.
      tokenizer: its decoder turns latents into pixels.
      dtype: of the tensors, a key of `vitok_jax.interop.folder.TYPES`.
      shard_bytes: largest file of tensors.
      step: of training.
      weights: `raw` or `ema`.

    Raises:
      UsageError: the folder exists, a weight is a NaN or an infinity, or the disk is full.
    """
    kind = folder.TYPES[dtype]
    tensors = layout.Layout(params, table())

    def produce(name: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # an infinity is an error of the writer
            return tensors.tensor(name, params).astype(kind)

    specs = {name: tensor_files.Spec(shape, kind) for name, shape in tensors.shapes.items()}
    about = describe(task, tokenizer, dtype=dtype) | {"step": step, "weights": weights}
    text = _CARD.format(
        size=task.config.model.size, variant=task.space.model.variant, step=step, weights=weights
    )
    with folder.whole_folder(out) as place:
        tensor_files.write(place, STEM, specs, produce, shard_bytes=shard_bytes)
        folder.write_half(place, "decoder", tokenizer, dtype=kind, shard_bytes=shard_bytes)
        for module in (MODULE, folder.MODULE):
            code = pathlib.Path(__file__).with_name(module).read_text(encoding="utf-8")
            files.write_text(place / module, code)
        files.write_text(place / folder.CARD, text)
        files.write_json(place / folder.CONFIG, about)


def describe(task: dit.DitTask, tokenizer: source.Source, *, dtype: str) -> dict[str, Any]:
    """The content of `config.json`."""
    run = config_lib.to_dict(task.config)
    model = task.config.model
    size = dit_shapes.size_of(model)
    choices = dit_shapes.block_config(model)
    process = run.pop("diffusion")
    if isinstance(task.process, flow.Flow):
        process["shift"] = task.process.shift
    return {
        "format": folder.FORMAT,
        "format_version": folder.VERSION,
        "kind": KIND,
        "dtype": dtype,
        "model": {
            **run.pop("model"),
            **dataclasses.asdict(size),
            "hidden": shapes.hidden_width(choices, size.width),
            "rope_split": list(shapes.rotary_split(choices, size.head_dim)),
            "channels": task.space.channels,
            "outputs": task.module.outputs,
        },
        "process": process,
        "sampler": run.pop("sampler"),
        "grid": [task.grid.t, task.grid.h, task.grid.w],
        "latent_mean": task.space.mean.tolist(),
        "latent_scale": task.space.scale.tolist(),
        "tokenizer": folder.describe(tokenizer, part="decoder", dtype=dtype),
        "training": run,
    }
