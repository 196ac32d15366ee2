"""The exported folder gives the same numbers in PyTorch: encode, decode, gradients, both types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import required
from tests.interop import tiny
from tests.models import small
from vitok_jax.interop import folder, layout
from vitok_jax.models import tubelets, vitok

torch = required.module("torch")

# Every choice of the model stands in at least one of these.
CHOICES = {
    "paper": {"variant": "w48d2h2-w32d1h2/1x4x5"},
    "v2": dict(
        variant="w48d1h2-w32d2h2/1x4x5",
        block="parallel",
        norm="rmsnorm",
        positions="2d",
        qk_norm="rmsnorm",
        layer_scale=1e-4,
        bottleneck="layernorm",
        final_norm="off",
        bias="none",
    ),
    "video": dict(
        variant="w48d2h3-w32d1h2/2x4x5",
        norm="rmsnorm",
        mlp="geglu",
        rope_split=(4, 4, 8),
        layer_scale=0.1,
        time_attention="causal",
        time_window=2,
        bottleneck="plain",
    ),
    "parallel": dict(variant="w48d1h2-w32d2h2/2x4x5", block="parallel", mlp="gelu", positions="1d"),
}
ALL_POSTERIOR = 0.3


def relative(a, b) -> float:
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return float(np.abs(a - b).max() / np.abs(b).max())


def pixels(model, batch=2):
    """Images; for tubelets of 2 frames clips of 4, or of 7, the first alone, where that may be."""
    frames = 4 if model.variant.tubelet.frames > 1 else 1
    frames = 7 if model.config.time_attention == "causal" else frames
    return np.asarray(small.inputs(batch, (frames, 8, 12)))


def weighing(shape, seed=5):
    """Fixed factors, so that a loss feels every output differently."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def jax_side(model, params, video_BTHWC):
    """Posterior, reconstruction and gradients."""

    def loss(params):
        tubelet, causal = model.variant.tubelet, model.config.time_attention
        out = model.apply({"params": params}, tubelets.patchify(video_BTHWC, tubelet, causal))
        grid = tubelets.grid_of(video_BTHWC.shape[1:4], tubelet, causal)
        video = tubelets.unpatchify(out.patches, grid, tubelet)
        value = jnp.mean(video * weighing(video.shape))
        value += ALL_POSTERIOR * jnp.mean(jnp.square(out.posterior.mean))
        value += ALL_POSTERIOR * jnp.mean(out.posterior.kl())
        return value, (out.posterior, video)

    return jax.jit(jax.grad(loss, has_aux=True), compiler_options=tiny.QUICK)(params)


def torch_side(network, video_BTHWC):
    """The same, by the names of PyTorch's tensors."""
    image = video_BTHWC.shape[1] == 1
    x = torch.from_numpy(np.moveaxis(video_BTHWC, -1, 1).copy())
    x = x[:, :, 0] if image else x
    dist = network.encode(x).latent_dist
    sample = network.decode(dist.mode(), None if image else x.shape[2]).sample
    video = (sample[:, :, None] if image else sample).movedim(1, -1)
    value = (video * torch.from_numpy(weighing(video.shape))).mean()
    value = value + ALL_POSTERIOR * dist.mean.square().mean() + ALL_POSTERIOR * dist.kl().mean()
    value.backward()
    grads = {name: p.grad.float().numpy() for name, p in network.named_parameters()}
    return dist, video.detach().numpy(), grads


def tokens(latents):
    """[B, C, ...] as [B, N, C]."""
    return latents.detach().flatten(2).transpose(1, 2).numpy()


@pytest.mark.parametrize("name", CHOICES)
def test_float32(name, tmp_path):
    origin = tiny.origin(**CHOICES[name])
    out = tiny.write(tmp_path / "out", origin)
    network = tiny.torch_module(out).ViTok.from_pretrained(str(out))
    model = vitok.build(origin.config.model)
    video = pixels(model)
    grads, (posterior, expected) = jax_side(model, origin.params, video)
    dist, found, torch_grads = torch_side(network, video)
    assert relative(tokens(dist.mean), posterior.mean) < 1e-5
    if posterior.logvar is not None:
        assert relative(tokens(dist.logvar), posterior.logvar) < 1e-5
    assert relative(found, expected) < 1e-5
    for half in folder.HALVES:
        table = layout.Layout(origin.params[half], layout.HALF)
        for tensor in table.shapes:
            theirs = torch_grads[f"{half}.{tensor}"]
            assert relative(theirs, table.tensor(tensor, grads[half])) < 1e-5, tensor


def test_bfloat16(tmp_path):
    origin = tiny.origin(**CHOICES["paper"], layers="loop")
    out = tiny.write(tmp_path / "out", origin, dtype="bf16")
    network = tiny.torch_module(out).ViTok.from_pretrained(str(out))
    assert network.encoder.embed.weight.dtype == torch.bfloat16
    model = vitok.build(small.config(**CHOICES["paper"], dtype="bfloat16", layers="loop"))
    video = pixels(model)
    given = tubelets.patchify(jnp.asarray(video), model.variant.tubelet)
    run = jax.jit(lambda p, x: model.apply({"params": p}, x), compiler_options=tiny.QUICK)
    expected = run(origin.params, given)
    with torch.no_grad():
        mean = network.encode(torch.from_numpy(np.moveaxis(video[:, 0], -1, 1).copy()))
        mean = mean.latent_dist.mode()
        same = np.array(expected.posterior.mean).swapaxes(1, 2).reshape(mean.shape)
        sample = network.decode(torch.from_numpy(same)).sample.movedim(1, -1)[:, None].numpy()
    assert relative(tokens(mean), expected.posterior.mean) < 2e-2
    patches = tubelets.patchify(jnp.asarray(sample), model.variant.tubelet).patches
    assert relative(patches, expected.patches) < 2e-2


def test_an_image_through_a_video_tokenizer(tmp_path):
    """Its frame is repeated on the way in, and the tubelet's mean on the way out."""
    out = tiny.write(tmp_path / "out", tiny.origin(**CHOICES["parallel"]))
    network = tiny.torch_module(out).ViTok.from_pretrained(str(out))
    image = torch.from_numpy(np.array(small.inputs(1, (8, 12, 3))))[..., 0].permute(0, 3, 1, 2)
    with torch.no_grad():
        both = network.encode(image[:, :, None].expand(-1, -1, 2, -1, -1)).latent_dist.mode()
        assert relative(network.encode(image).latent_dist.mode(), both[:, :, 0]) < 1e-6
        mean = network.decode(both).sample.mean(2)
        assert relative(network(image), mean) < 1e-6
    with pytest.raises(ValueError, match="sides multiples of 4, frames of 2, or 1"):
        network.encode(image[:, :, None].expand(-1, -1, 3, -1, -1))
    with pytest.raises(ValueError, match="3 frames; allowed: 2 or 1"):
        network.decode(both, frames=3)
