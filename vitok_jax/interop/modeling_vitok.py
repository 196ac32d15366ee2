"""ViTok tokenizer in PyTorch: `config.json` and safetensors of this folder; needs nothing else.

  from modeling_vitok import ViTok
  model = ViTok.from_pretrained(".")           # or part="encoder", dtype=torch.bfloat16
  z = model.encode(x).latent_dist.mode()       # x [B, 3, H, W] or [B, 3, T, H, W] in [-1, 1]
  y = model.decode(z).sample                   # z [B, C, h, w] or [B, C, t, h, w]

Any height and width that the patch divides. Any number of frames that the tubelet's q divides; or
one; or, with causal attention, 1 + k q, the first alone: `decode(z, frames=1 + k * q)`. Norms,
rotary angles and the posterior are float32 whatever the type of the weights.
"""

import dataclasses
import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

NORM_EPSILON = {"layernorm": 1e-5, "rmsnorm": 1e-6}
CODE_EPSILON = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)


class LatentDist:
    """Gaussian over latents, or one point where the bottleneck has no variance."""

    def __init__(self, mean: Tensor, logvar: Tensor | None) -> None:
        self.mean, self.logvar = mean, logvar

    @property
    def std(self) -> Tensor:
        """Standard deviation."""
        return torch.zeros_like(self.mean) if self.logvar is None else (0.5 * self.logvar).exp()

    def mode(self) -> Tensor:
        """The most likely latents."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Latents drawn at random."""
        if self.logvar is None:
            return self.mean
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Divergence of each number from a unit Gaussian, in nats."""
        if self.logvar is None:
            return torch.zeros_like(self.mean)
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar)


@dataclasses.dataclass
class EncoderOutput:
    """What `encode` returns."""

    latent_dist: LatentDist


@dataclasses.dataclass
class DecoderOutput:
    """What `decode` returns: pixels, about [-1, 1], not clipped."""

    sample: Tensor


class Norm(nn.Module):
    """LayerNorm or RMSNorm, in float32."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if kind == "layernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        """The type of x stays."""
        shape, epsilon, scale = x.shape[-1:], NORM_EPSILON[self.kind], self.weight.float()
        if self.bias is None:
            return F.rms_norm(x.float(), shape, scale, epsilon).to(x.dtype)
        return F.layer_norm(x.float(), shape, scale, self.bias.float(), epsilon).to(x.dtype)


class Scale(nn.Module):
    """A factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies x."""
        return x * self.gamma


def _scale(start: float, width: int) -> nn.Module:
    return Scale(width) if start else nn.Identity()


def rotate(x_BHND: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
    """Turns channels 2i and 2i + 1 of every head by the angle of pair i."""
    even, odd = x_BHND.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = (even * cos_NK - odd * sin_NK, even * sin_NK + odd * cos_NK)
    return torch.stack(turned, -1).flatten(-2).to(x_BHND.dtype)


class Attention(nn.Module):
    """Multi-head attention with rotary positions."""

    def __init__(self, model: dict, size: dict) -> None:
        super().__init__()
        width, self.heads = size["width"], size["heads"]
        self.qkv = nn.Linear(width, 3 * width, bias=model["bias"] == "every")
        self.out = nn.Linear(width, width, bias=model["bias"] != "none")
        self.normed = model["qk_norm"] == "rmsnorm"
        if self.normed:
            self.query_norm = Norm("rmsnorm", width // self.heads)
            self.key_norm = Norm("rmsnorm", width // self.heads)

    def forward(self, x_BNW: Tensor, turn: tuple[Tensor, Tensor], mask_NN: Tensor | None) -> Tensor:
        """Mixes tokens."""
        qkv = self.qkv(x_BNW).unflatten(-1, (3, self.heads, -1))
        q, k, v = (one.transpose(1, 2) for one in qkv.unbind(2))
        if self.normed:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = rotate(q, *turn), rotate(k, *turn)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_NN)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    """SwiGLU, GEGLU or GELU."""

    def __init__(self, model: dict, size: dict) -> None:
        super().__init__()
        self.kind, bias = model["mlp"], model["bias"] != "none"
        parts = 1 if self.kind == "gelu" else 2
        self.hidden = nn.Linear(size["width"], parts * size["hidden"], bias=bias)
        self.out = nn.Linear(size["hidden"], size["width"], bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps each token by itself."""
        hidden = self.hidden(x)
        if self.kind == "gelu":
            return self.out(F.gelu(hidden))
        value, gate = hidden.chunk(2, -1)
        return self.out((F.silu(gate) if self.kind == "swiglu" else F.gelu(gate)) * value)


class Block(nn.Module):
    """Pre-norm block: its two branches one after the other or side by side."""

    def __init__(self, model: dict, size: dict) -> None:
        super().__init__()
        self.parallel = model["block"] == "parallel"
        width, kind, scaled = size["width"], model["norm"], model["layer_scale"]
        if self.parallel:
            self.norm, self.scale = Norm(kind, width), _scale(scaled, width)
        else:
            self.attention_norm, self.attention_scale = Norm(kind, width), _scale(scaled, width)
            self.mlp_norm, self.mlp_scale = Norm(kind, width), _scale(scaled, width)
        self.attention, self.mlp = Attention(model, size), Mlp(model, size)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """The residual stream after this block."""
        if self.parallel:
            h = self.norm(x)
            return x + self.scale(self.attention(h, turn, mask) + self.mlp(h))
        x = x + self.attention_scale(self.attention(self.attention_norm(x), turn, mask))
        return x + self.mlp_scale(self.mlp(self.mlp_norm(x)))


class Half(nn.Module):
    """Encoder (ends in `code`) or decoder (ends in `pixels`)."""

    def __init__(self, model: dict, size: dict, inputs: int, outputs: int, last: str) -> None:
        super().__init__()
        self.model, self.size, self.last = model, size, last
        self.embed = nn.Linear(inputs, size["width"])
        self.blocks = nn.ModuleList(Block(model, size) for _ in range(size["depth"]))
        normed = model["final_norm"] == "on"
        self.norm = Norm(model["norm"], size["width"]) if normed else nn.Identity()
        setattr(self, last, nn.Linear(size["width"], outputs))

    def forward(self, x_BNI: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Maps tokens of a grid in raster order; float32."""
        positions_N3 = grid_positions(grid, x_BNI.device)
        turn = rotation(self.model, self.size["rope_split"], positions_N3, grid)
        mask_NN = None
        if self.model["time_attention"] == "causal" and grid[0] > 1:
            back_NN = positions_N3[:, None, 0] - positions_N3[None, :, 0]
            mask_NN = (back_NN >= 0) & (back_NN < (self.model["time_window"] or grid[0]))
        x_BNW = self.embed(x_BNI.to(self.embed.weight.dtype))
        for block in self.blocks:
            x_BNW = block(x_BNW, turn, mask_NN)
        last = getattr(self, self.last)
        return F.linear(self.norm(x_BNW).float(), last.weight.float(), last.bias.float())


def grid_positions(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """The (t, y, x) of every token in raster order, [N, 3]."""
    axes = [torch.arange(n, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def rotation(
    model: dict, split: list[int], positions_N3: Tensor, grid: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, one per token and pair of channels; each part of a head reads one axis."""
    places = positions_N3[:, -len(split) :].float()
    if model["positions"] == "1d":
        places = torch.arange(math.prod(grid), device=places.device)[:, None].float()
    angles = []
    for axis, part in enumerate(split):
        exponents = torch.arange(0, part, 2, dtype=torch.float64) / max(part, 1)
        frequencies = (model["rope_theta"] ** -exponents).float().to(places.device)
        angles.append(places[:, axis, None] * frequencies)
    angles_NK = torch.cat(angles, -1)
    return angles_NK.cos(), angles_NK.sin()


class ViTok(nn.Module):
    """The tokenizer; `config` is the content of `config.json`."""

    def __init__(self, config: dict, part: str = "all") -> None:
        super().__init__()
        self.config = config
        model = config["model"]
        self.frames, self.patch = model["tubelet"]
        self.causal = model["time_attention"] == "causal"
        dim, self.channels = self.frames * self.patch**2 * 3, model["channels"]
        code = self.channels * (2 if model["bottleneck"] == "kl" else 1)
        if part in ("all", "encoder"):
            self.encoder = Half(model, model["encoder"], dim, code, "code")
        if part in ("all", "decoder"):
            self.decoder = Half(model, model["decoder"], self.channels, dim, "pixels")

    @classmethod
    def from_pretrained(
        cls, folder: str, part: str = "all", device: str = "cpu", dtype: torch.dtype | None = None
    ) -> "ViTok":
        """Loads a folder; `part` is all, encoder or decoder, `dtype` that of the file if None."""
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        if config.get("format") != "vitok_jax" or config.get("kind") != "tokenizer":
            raise ValueError(f"{folder}/config.json is not of a vitok_jax tokenizer")
        part = config["part"] if part == "all" else part
        with torch.device("meta"):
            model = cls(config, part)
        for name, half in model.named_children():
            load_weights(half, folder, name, device, dtype)
        return model.eval()

    def encode(self, x: Tensor) -> EncoderOutput:
        """Pixels [B, 3, H, W] or clips [B, 3, T, H, W], in [-1, 1], to a distribution of latents.

        Latents are [B, C, h, w], or for clips [B, C, t, h, w].
        """
        clip = x[:, :, None] if x.ndim == 4 else x
        q, p, frames = self.frames, self.patch, clip.shape[2]
        if frames % q and frames % q == 1 and (frames == 1 or self.causal):
            clip = torch.cat([clip[:, :, :1].expand(-1, -1, q - 1, -1, -1), clip], 2)
        if x.ndim not in (4, 5) or clip.shape[2] % q or clip.shape[3] % p or clip.shape[4] % p:
            raise ValueError(
                f"pixels of shape {tuple(x.shape)}; allowed: [B, 3, H, W] or [B, 3, T, H, W], "
                f"sides multiples of {p}, frames of {q}, or 1" + f" + {q} k" * self.causal
            )
        t, h, w = clip.shape[2] // q, clip.shape[3] // p, clip.shape[4] // p
        split = clip.unflatten(4, (w, p)).unflatten(3, (h, p)).unflatten(2, (t, q))
        patches = split.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)
        code_BNK = self.encoder(patches, (t, h, w))
        code = code_BNK.transpose(1, 2).unflatten(2, (t, h, w) if x.ndim == 5 else (h, w))
        if self.config["model"]["bottleneck"] == "kl":
            mean, logvar = code.chunk(2, 1)
            return EncoderOutput(LatentDist(mean, logvar.clamp(*LOGVAR_RANGE)))
        if self.config["model"]["bottleneck"] == "layernorm":
            code = code - code.mean(1, keepdim=True)
            code = code * (code.square().mean(1, keepdim=True) + CODE_EPSILON).rsqrt()
        return EncoderOutput(LatentDist(code, None))

    def decode(self, z: Tensor, frames: int | None = None) -> DecoderOutput:
        """Latents [B, C, h, w] to pixels, or [B, C, t, h, w] to clips of `frames`; float32.

        Without `frames` a clip has t q of them; with one of 1 + (t - 1) q the first is alone.
        """
        if z.ndim not in (4, 5) or z.shape[1] != self.channels:
            raise ValueError(
                f"latents of shape {tuple(z.shape)}; allowed: [B, {self.channels}, h, w] or "
                f"[B, {self.channels}, t, h, w]"
            )
        t, h, w = (1, *z.shape[2:]) if z.ndim == 4 else z.shape[2:]
        q, p = self.frames, self.patch
        frames = 1 if z.ndim == 4 else t * q if frames is None else frames
        if frames not in (t * q, t * q - q + 1):
            raise ValueError(f"{frames} frames; allowed: {t * q} or {t * q - q + 1}")
        patches = self.decoder(z.flatten(2).transpose(1, 2), (t, h, w))
        split = patches.unflatten(2, (q, p, p, 3)).unflatten(1, (t, h, w))
        clip = split.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6).flatten(4, 5).flatten(2, 3)
        if frames < t * q:
            clip = torch.cat([clip[:, :, :q].mean(2, keepdim=True), clip[:, :, q:]], 2)
        return DecoderOutput(clip[:, :, 0] if z.ndim == 4 else clip)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of the posterior's mode."""
        frames = x.shape[2] if x.ndim == 5 else None
        return self.decode(self.encode(x).latent_dist.mode(), frames).sample


def load_weights(
    module: nn.Module, folder: str, stem: str, device: str, dtype: torch.dtype | None
) -> None:
    """Fills a module from `stem.safetensors` or from the shards that its index names."""
    index = os.path.join(folder, f"{stem}.safetensors.index.json")
    shards = {f"{stem}.safetensors"}
    if os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            shards = {os.path.basename(shard) for shard in json.load(file)["weight_map"].values()}
    tensors = {}
    for shard in sorted(shards):
        with safe_open(os.path.join(folder, shard), "pt", device=device) as opened:
            for name in opened.keys():  # noqa: SIM118, it is no mapping
                tensor = opened.get_tensor(name)
                tensors[name] = tensor if dtype is None else tensor.to(dtype)
    wanted = module.state_dict()
    for name in {*wanted, *tensors}:
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        shape = tuple(wanted[name].shape) if name in wanted else "none"
        if found != shape:
            raise ValueError(f"{folder}: {stem} tensor {name}: {found}; allowed: {shape}")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{folder}: {stem} tensor {name} holds a NaN or an infinity")
    module.load_state_dict(tensors, assign=True)
