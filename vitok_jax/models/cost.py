"""Parameters and multiply-accumulates of a model, by arithmetic; imports no JAX.

Counted are the weights of every layer, and the products of the linear layers, of the scores q k
and of their application to v. Norms, rotations, softmax and activations are left out, as they are
in the paper, whose "GFLOPs" are multiply-accumulates of one encoding and one decoding.

The paper's tables come from a plain transformer (MLP of 4 W with all biases, a learned position
table, no bottleneck) behind tubelets of 16 x 16 x 3 = 768 numbers, whatever the tubelet is. Our
gated MLP has almost the same cost (3 x 2048 against 2 x 3072 for W = 768), rotary positions need no
table, and that leaves 0.02 to 0.5 %. For tubelets that are wider than 768 numbers (4x16, 8x8) the
paper's figures leave out what is added to embedding and pixel projection; `Cost.params_768` and
`Cost.macs_768` count as the paper does.
"""

import dataclasses

from vitok_jax.config import ModelConfig
from vitok_jax.models import shapes, variants

PAPER_TUBELET_DIM = 768


@dataclasses.dataclass(frozen=True)
class Half:
    """Encoder or decoder.

    Attributes:
      params: number of weights.
      macs: multiply-accumulates for one picture or video.
      attention_macs: of these, the scores and their application to the values.
      projection_params: of `params`, those between tubelets and the residual stream.
      projection_macs: likewise of `macs`.
    """

    params: int
    macs: int
    attention_macs: int
    projection_params: int
    projection_macs: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """One encoding and one decoding of one picture or video.

    Attributes:
      encoder: tubelets to the numbers that make the posterior.
      decoder: latents to patches.
      tokens: L.
      latent_floats: E = L * c.
      params_768: weights if tubelets had 768 numbers, as the paper counts.
      macs_768: multiply-accumulates, likewise.
    """

    encoder: Half
    decoder: Half
    tokens: int
    latent_floats: int
    params_768: int
    macs_768: int

    @property
    def params(self) -> int:
        """Weights of both halves."""
        return self.encoder.params + self.decoder.params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both halves."""
        return self.encoder.macs + self.decoder.macs


def cost(config: ModelConfig, shape_thw: tuple[int, int, int]) -> Cost:
    """What a model costs at one size of input.

    Attention is counted whole also where it is causal over frames: each query meets each key.

    Args:
      config: the model.
      shape_thw: frames, height and width of the input.

    Returns:
      Its cost.

    Raises:
      UsageError: the config does not fit itself, or its tubelet does not divide the input.
    """
    variant = shapes.check(config)
    tokens = shapes.grid_of(shape_thw, variant.tubelet, config.time_attention).tokens
    code = shapes.code_width(config, variant.channels)
    patch = variant.tubelet.dim
    encoder = _half(config, variant.encoder, tokens, patch=patch, ends=(patch, code))
    decoder = _half(config, variant.decoder, tokens, patch=patch, ends=(variant.channels, patch))
    halves = (encoder, decoder)
    narrow = {
        name: sum(PAPER_TUBELET_DIM * getattr(half, name) // patch for half in halves)
        for name in ("projection_params", "projection_macs")
    }
    return Cost(
        encoder=encoder,
        decoder=decoder,
        tokens=tokens,
        latent_floats=tokens * variant.channels,
        params_768=sum(half.params - half.projection_params for half in halves)
        + narrow["projection_params"],
        macs_768=sum(half.macs - half.projection_macs for half in halves)
        + narrow["projection_macs"],
    )


def _half(
    config: ModelConfig, size: variants.Size, tokens: int, *, patch: int, ends: tuple[int, int]
) -> Half:
    """Cost of one half, which maps `ends[0]` numbers per token to `ends[1]`."""
    width, depth = size.width, size.depth
    hidden = shapes.hidden_width(config, width)
    first, last = ends
    kernels = depth * _block_kernels(config, width, hidden) + first * width + width * last
    vectors = depth * _block_vectors(config, size, hidden) + width + last
    if config.final_norm == "on":
        vectors += _norm_vectors(config, width)
    attention_macs = depth * 2 * tokens**2 * width
    return Half(
        params=kernels + vectors,
        macs=tokens * kernels + attention_macs,
        attention_macs=attention_macs,
        projection_params=patch * width,
        projection_macs=tokens * patch * width,
    )


def _block_kernels(config: ModelConfig, width: int, hidden: int) -> int:
    """Entries of a block's matrices: query, key, value, out, and the MLP's two or three."""
    return 4 * width**2 + (2 if config.mlp == "gelu" else 3) * width * hidden


def _block_vectors(config: ModelConfig, size: variants.Size, hidden: int) -> int:
    """Entries of a block's biases, norms and scales."""
    branches = 1 if config.block == "parallel" else 2
    count = branches * _norm_vectors(config, size.width)
    if config.bias == "all":
        count += 2 * size.width + (1 if config.mlp == "gelu" else 2) * hidden
    if config.layer_scale:
        count += branches * size.width
    if config.qk_norm == "rmsnorm":
        count += 2 * size.head_dim
    return count


def _norm_vectors(config: ModelConfig, width: int) -> int:
    """Entries of one norm's scale and shift."""
    return 2 * width if config.norm == "layernorm" else width
