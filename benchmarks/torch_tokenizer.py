"""The auto-encoder as a PyTorch user would write it: the opponent in `benchmarks/step.py`.

Same shapes, same products, same loss and optimizer as the default `ModelConfig`: pre-norm blocks,
fused query/key/value, rotary positions, SwiGLU, KL bottleneck, MSE + KL, AdamW.
"""

import torch
import torch.nn.functional as F
from torch import nn

from vitok_jax.config import ModelConfig
from vitok_jax.models import shapes, variants

KL_WEIGHT = 1e-3


def _rotation(config: ModelConfig, head_dim: int, positions_N3: torch.Tensor) -> torch.Tensor:
    """Unit complex numbers [N, D / 2]."""
    angles = []
    for axis, part in enumerate(shapes.rotary_split(config, head_dim)):
        frequency = config.rope_theta ** (-torch.arange(0, part, 2) / max(part, 1))
        angles.append(positions_N3[:, axis, None] * frequency)
    angles_NK = torch.cat(angles, dim=-1)
    return torch.polar(torch.ones_like(angles_NK), angles_NK)


def _rotate(x_BHND: torch.Tensor, turn_NK: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x_BHND.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn_NK).flatten(-2).to(x_BHND.dtype)


class _Block(nn.Module):
    def __init__(self, config: ModelConfig, size: variants.Size):
        super().__init__()
        width, hidden = size.width, shapes.hidden_width(config, size.width)
        self.heads = size.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.gate, self.value = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x_BNW: torch.Tensor, turn_NK: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm1(x_BNW)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        q, k, v = qkv.unbind(2)
        mixed = F.scaled_dot_product_attention(_rotate(q, turn_NK), _rotate(k, turn_NK), v)
        x_BNW = x_BNW + self.out(mixed.transpose(1, 2).flatten(-2))
        h_BNW = self.norm2(x_BNW)
        return x_BNW + self.down(F.silu(self.gate(h_BNW)) * self.value(h_BNW))


class _Half(nn.Module):
    def __init__(self, config: ModelConfig, size: variants.Size, ends: tuple[int, int], positions):
        super().__init__()
        self.embed = nn.Linear(ends[0], size.width)
        self.blocks = nn.ModuleList(_Block(config, size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.last = nn.Linear(size.width, ends[1])
        self.register_buffer("turn_NK", _rotation(config, size.head_dim, positions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, self.turn_NK)
        return self.last(self.norm(x))


class Tokenizer(nn.Module):
    """Encoder and decoder for one shape of input."""

    def __init__(self, config: ModelConfig, shape_thw: tuple[int, int, int]):
        super().__init__()
        variant = shapes.check(config)
        self.tubelet = variant.tubelet
        self.grid = shapes.grid_of(shape_thw, variant.tubelet)
        positions = torch.from_numpy(shapes.positions_of(self.grid))
        dim, channels = variant.tubelet.dim, variant.channels
        self.encoder = _Half(config, variant.encoder, (dim, 2 * channels), positions)
        self.decoder = _Half(config, variant.decoder, (channels, dim), positions)

    def patches(self, video_BTHWC: torch.Tensor) -> torch.Tensor:
        """Tubelets as vectors, scaled to [-1, 1]."""
        q, p, grid = self.tubelet.frames, self.tubelet.patch, self.grid
        video = video_BTHWC.float() / 127.5 - 1
        split = video.reshape(-1, grid.t, q, grid.h, p, grid.w, p, 3)
        return split.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, grid.tokens, self.tubelet.dim)

    def forward(self, video_BTHWC: torch.Tensor) -> torch.Tensor:
        """Reconstructed patches, from the posterior's mode."""
        mean, _ = self.encoder(self.patches(video_BTHWC)).chunk(2, dim=-1)
        return self.decoder(mean)

    def loss(self, video_BTHWC: torch.Tensor) -> torch.Tensor:
        """MSE + KL, from a sample of the posterior."""
        target = self.patches(video_BTHWC)
        mean, logvar = self.encoder(target).float().chunk(2, dim=-1)
        logvar = logvar.clamp(-30, 20)
        output = self.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return F.mse_loss(output.float(), target) + KL_WEIGHT * kl


class Runner:
    """A tokenizer with an optimizer, ready to be timed."""

    def __init__(self, config: ModelConfig, shape_thw: tuple[int, int, int], device: str):
        self.device = device
        self.model = Tokenizer(config, shape_thw).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1e-4, fused=True
        )

    def forward(self, video_BTHWC: torch.Tensor) -> None:
        """One reconstruction, waited for."""
        with torch.inference_mode(), self._precision():
            self.model(video_BTHWC)
        self._wait()

    def train(self, video_BTHWC: torch.Tensor) -> None:
        """One update with its gradient clipped to norm 1, waited for."""
        with self._precision():
            loss = self.model.loss(video_BTHWC)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._wait()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
