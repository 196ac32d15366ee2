"""Parameters and multiply-accumulates of a DiT, by arithmetic; imports no JAX.

Counted as in `vitok_jax.models.cost`. The published models (S 33 M, B 130 M, L 458 M, XL 675 M;
DiT table 1) are `classic`: GELU MLP of 4 W, every linear layer with bias, 16 numbers per token (2 x
2 patches of 4 channels) in and 32 out. Their counts include 256 x W fixed numbers of a position
table, which rotary positions do without. The paper gives its DiT-L as 400 M.
"""

import dataclasses

from vitok_jax.config import DitConfig
from vitok_jax.models import dit_shapes, shapes

# Parameters as published (DiT table 1), and the tokens of its position table.
PUBLISHED = {"S": "33M", "B": "130M", "L": "458M", "XL": "675M"}
POSITION_TABLE = 256


@dataclasses.dataclass(frozen=True)
class DitCost:
    """One evaluation of the network for one sample.

    Attributes:
      params: number of weights.
      macs: multiply-accumulates.
      attention_macs: of these, the scores and their application to the values.
    """

    params: int
    macs: int
    attention_macs: int


def classic(size: str) -> DitConfig:
    """The published layout of a size: S, B, L or XL."""
    return DitConfig(size=size, mlp="gelu", bias="every", modulation="block", block="sequential")


def dit_cost(config: DitConfig, *, tokens: int, channels: int, outputs: int) -> DitCost:
    """What a DiT costs.

    Args:
      config: its choices.
      tokens: latent tokens of one sample.
      channels: numbers per token in.
      outputs: numbers per token out.

    Returns:
      Its cost; guidance doubles `macs`.

    Raises:
      UsageError: the config does not fit itself.
    """
    size = dit_shapes.size_of(config)
    width, depth = size.width, size.depth
    block = dit_shapes.block_config(config)
    hidden = shapes.hidden_width(block, width)
    mlp_inputs = 1 if config.mlp == "gelu" else 2
    kernels = depth * (4 * width**2 + (mlp_inputs + 1) * width * hidden)
    kernels += width * (channels + outputs)
    vectors = depth * _block_vectors(config, hidden, mlp_inputs) + width + outputs

    # What works on the condition runs once per sample, whatever the number of tokens.
    steered = dit_shapes.modulations(config)
    modulations = (depth if config.modulation == "block" else 1) * steered + 2
    once = dit_shapes.TIME_FREQUENCIES * width + width**2 + modulations * width**2
    offsets = depth * steered * width + 2 * width + 2 * width
    labels = (config.num_classes + 1) * width
    attention_macs = depth * 2 * tokens**2 * width
    return DitCost(
        params=kernels + vectors + once + offsets + labels,
        macs=tokens * kernels + attention_macs + once,
        attention_macs=attention_macs,
    )


def _block_vectors(config: DitConfig, hidden: int, mlp_inputs: int) -> int:
    """Entries of a block's biases and scales; its norms have none."""
    size = dit_shapes.size_of(config)
    count = 0
    if config.bias != "none":
        count += 2 * size.width + mlp_inputs * hidden
    if config.bias == "every":
        count += 3 * size.width
    if config.layer_scale:
        count += (1 if config.block == "parallel" else 2) * size.width
    if config.qk_norm == "rmsnorm":
        count += 2 * size.head_dim
    return count
