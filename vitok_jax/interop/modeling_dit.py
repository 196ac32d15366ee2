"""Diffusion transformer with its sampler and decoder in PyTorch; beside `modeling_vitok.py`.

  from modeling_dit import Generator
  generator = Generator.from_pretrained(".")
  pixels = generator.sample(torch.tensor([3, 7]))      # [B, 3, H, W] or [B, 3, T, H, W], [-1, 1]

Samplers without fresh noise: ddim (eta 0), euler and heun.
"""

import dataclasses
import json
import math
import os

import torch
import torch.nn.functional as F
from modeling_vitok import (
    NORM_EPSILON,
    Attention,
    Mlp,
    Scale,
    ViTok,
    grid_positions,
    load_weights,
    rotation,
)
from torch import Tensor, nn

TIME_FREQUENCIES = 256
LONGEST_WAVE = 10_000.0
SAMPLERS = ("ddim", "euler", "heun")


def linear32(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in float32 whatever its type."""
    bias = None if layer.bias is None else layer.bias.float()
    return F.linear(x.float(), layer.weight.float(), bias)


def adaptive_norm(kind: str, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """A norm whose scale and shift come from the condition."""
    norm = F.layer_norm if kind == "layernorm" else F.rms_norm
    normed = norm(x.float(), x.shape[-1:], eps=NORM_EPSILON[kind])
    return (normed * (1 + scale) + shift).to(x.dtype)


def scale_or_not(model: dict) -> nn.Module:
    """Layer scale where the model has it."""
    return Scale(model["width"]) if model["layer_scale"] else nn.Identity()


class Offset(nn.Module):
    """What a block adds to shared modulation."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(count))


class Block(nn.Module):
    """A block steered by the condition."""

    def __init__(self, model: dict) -> None:
        super().__init__()
        width, self.model = model["width"], model
        self.parallel, self.shared = model["block"] == "parallel", model["modulation"] == "shared"
        self.count = 4 if self.parallel else 6
        many = self.count * width
        self.modulation = Offset(many) if self.shared else nn.Linear(width, many)
        self.attention, self.mlp = Attention(model, model), Mlp(model, model)
        if self.parallel:
            self.scale = scale_or_not(model)
        else:
            self.attention_scale, self.mlp_scale = scale_or_not(model), scale_or_not(model)

    def forward(
        self, x: Tensor, steer: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """The residual stream after this block."""
        if isinstance(self.modulation, Offset):
            vectors = steer + self.modulation.bias.float()
        else:
            vectors = linear32(self.modulation, F.silu(steer).to(x.dtype))
        v = vectors[:, None].chunk(self.count, -1)
        h = adaptive_norm(self.model["norm"], x, v[0], v[1])
        mixed = self.attention(h, turn, mask) * v[2].to(x.dtype)
        if self.parallel:
            return x + self.scale(mixed + self.mlp(h) * v[3].to(x.dtype))
        x = x + self.attention_scale(mixed)
        h = adaptive_norm(self.model["norm"], x, v[3], v[4])
        return x + self.mlp_scale(self.mlp(h) * v[5].to(x.dtype))


class Condition(nn.Module):
    """Time and label as one vector."""

    def __init__(self, model: dict) -> None:
        super().__init__()
        width = model["width"]
        self.time_in = nn.Linear(TIME_FREQUENCIES, width)
        self.time_out = nn.Linear(width, width)
        self.labels = nn.Embedding(model["num_classes"] + 1, width)

    def forward(self, time: Tensor, labels: Tensor) -> Tensor:
        """The condition of each example, float32."""
        half = TIME_FREQUENCIES // 2
        exponents = torch.arange(half, dtype=torch.float64, device=time.device) / half
        angles = time[:, None].float() * (LONGEST_WAVE**-exponents).float()
        embedded = torch.cat([angles.cos(), angles.sin()], -1)
        hidden = F.silu(linear32(self.time_in, embedded))
        return linear32(self.time_out, hidden) + self.labels(labels).float()


class Final(nn.Module):
    """The last adaptive norm and the map to outputs."""

    def __init__(self, model: dict) -> None:
        super().__init__()
        width, self.kind = model["width"], model["norm"]
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, model["outputs"])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The output, float32."""
        vectors = linear32(self.modulation, F.silu(condition).to(x.dtype))
        shift, scale = vectors[:, None].chunk(2, -1)
        return linear32(self.output, adaptive_norm(self.kind, x, shift, scale))


class Transformer(nn.Module):
    """Predicts noise, or a velocity, for every number of a latent [B, N, C]."""

    def __init__(self, model: dict, grid: list[int]) -> None:
        super().__init__()
        self.model, self.grid, width = model, (grid[0], grid[1], grid[2]), model["width"]
        self.condition, self.final = Condition(model), Final(model)
        self.embed = nn.Linear(model["channels"], width)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model["depth"]))
        self.shared = model["modulation"] == "shared"
        if self.shared:
            count = 4 if model["block"] == "parallel" else 6
            self.modulation = nn.Linear(width, count * width, bias=False)

    def forward(self, x_BNC: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """The network's output, float32; `time` is 0 to 1,000, a label up to `num_classes`."""
        positions_N3 = grid_positions(self.grid, x_BNC.device)
        turn = rotation(self.model, self.model["rope_split"], positions_N3, self.grid)
        mask = None
        if self.model["time_attention"] == "causal":
            mask = positions_N3[:, None, 0] >= positions_N3[None, :, 0]
        x = self.embed(x_BNC.to(self.embed.weight.dtype))
        condition = self.condition(time, labels)
        steer = condition
        if self.shared:
            steer = linear32(self.modulation, F.silu(condition).to(x.dtype))
        for block in self.blocks:
            x = block(x, steer, turn, mask)
        return self.final(x, condition)


@dataclasses.dataclass
class Levels:
    """The way from noise to data; entry i + 1 is where step i ends.

    `time` is what the network reads, `level` the share of noise that guidance asks for.
    """

    time: Tensor
    level: Tensor
    signal: Tensor
    noise: Tensor


def levels(process: dict, steps: int) -> Levels:
    """The levels of a process in so many steps."""
    if process["process"] == "flow":
        t = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        t = process["shift"] * t / (1 + (process["shift"] - 1) * t)
        return Levels(1_000 * t, t, 1 - t, t)
    last = process["steps"]
    if not 1 <= steps <= last:
        raise ValueError(f"{steps} steps; allowed: 1 to {last}")
    betas = torch.linspace(process["beta_first"], process["beta_last"], last, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    alpha_bar = torch.cat([one, (1 - betas).cumprod(0)])
    kept = torch.linspace(last, 1, steps, dtype=torch.float64).round().long()
    t = torch.cat([kept, torch.zeros(1, dtype=torch.long)])
    return Levels(t - 1.0, t / last, alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt())


class Generator(nn.Module):
    """Transformer, sampler and decoder; `config` is the content of `config.json`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config["model"], config["grid"])
        self.tokenizer = ViTok(config["tokenizer"], part="decoder")

    @classmethod
    def from_pretrained(
        cls, folder: str, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> "Generator":
        """Loads a folder; `dtype` is that of the file if None."""
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        if config.get("format") != "vitok_jax" or config.get("kind") != "dit":
            raise ValueError(f"{folder}/config.json is not of a vitok_jax diffusion transformer")
        with torch.device("meta"):
            made = cls(config)
        load_weights(made.transformer, folder, "transformer", device, dtype)
        load_weights(made.tokenizer.decoder, folder, "decoder", device, dtype)
        return made.eval()

    @torch.inference_mode()
    def sample(
        self,
        labels: Tensor,
        steps: int | None = None,
        scale: float | None = None,
        sampler: str | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Pixels of classes [B]; what is None is as in training, `noise` is [B, N, C]."""
        settings, grid = self.config["sampler"], self.config["grid"]
        sampler = settings["name"] if sampler is None else sampler
        if sampler not in SAMPLERS or settings["eta"]:
            raise ValueError(f"sampler {sampler}, eta {settings['eta']}; allowed: {SAMPLERS}, 0")
        device = self.transformer.embed.weight.device
        if noise is None:
            shape = (len(labels), math.prod(grid), self.config["model"]["channels"])
            noise = torch.randn(shape, generator=generator)
        way = levels(self.config["process"], settings["steps"] if steps is None else steps)
        scale = settings["scale"] if scale is None else scale
        x, labels = noise.to(device, torch.float32), labels.to(device)
        for i in range(len(way.time) - 1):
            x = self._step(sampler, way, i, x, labels, scale)
        mean, std = (
            torch.tensor(self.config[f"latent_{n}"], device=device) for n in ("mean", "scale")
        )
        z = (x * std + mean).transpose(1, 2).unflatten(2, grid)
        image = grid[0] == 1 and self.tokenizer.frames == 1
        return self.tokenizer.decode(z[:, :, 0] if image else z).sample

    def _step(
        self, sampler: str, way: Levels, i: int, x: Tensor, labels: Tensor, scale: float
    ) -> Tensor:
        s_t, n_t, s_s, n_s = (
            float(v) for v in (way.signal[i], way.noise[i], way.signal[i + 1], way.noise[i + 1])
        )
        x0, noise = self._predict(way, i, x, labels, scale)
        if sampler == "ddim":
            return s_s * x0 + n_s * noise
        slope, sum_t, sum_s = noise - x0, s_t + n_t, s_s + n_s
        tried = sum_s * (x / sum_t + (n_s / sum_s - n_t / sum_t) * slope)
        if sampler == "euler" or i + 2 == len(way.time):
            return tried
        x0, noise = self._predict(way, i + 1, tried, labels, scale)
        slope = (slope + noise - x0) / 2
        return sum_s * (x / sum_t + (n_s / sum_s - n_t / sum_t) * slope)

    def _predict(
        self, way: Levels, i: int, x: Tensor, labels: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Data and noise in x at level i, by classifier-free guidance."""
        settings, channels = self.config["sampler"], x.shape[-1]
        time = way.time[i].float().to(x.device).expand(len(x))
        output = self.transformer(x, time, labels)[..., :channels]
        if scale != 1 and settings["low"] <= float(way.level[i]) <= settings["high"]:
            none = torch.full_like(labels, self.config["model"]["num_classes"])
            without = self.transformer(x, time, none)[..., :channels]
            guided = without + scale * (output - without)
            found = guided.std((1, 2), keepdim=True, correction=0).clamp(min=1e-30)
            factor = output.std((1, 2), keepdim=True, correction=0) / found
            output = guided * (settings["rescale"] * factor + 1 - settings["rescale"])
        signal, noise = float(way.signal[i]), float(way.noise[i])
        if self.config["process"]["process"] == "flow":
            return x - noise * output, x + signal * output
        return (x - noise * output) / signal, output
