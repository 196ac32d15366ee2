"""The SD-VAE in linen against diffusers, on random weights."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import vitok_jax
from tests import required, torch_networks
from vitok_jax import errors
from vitok_jax.interop import autoencoder_kl, opening

NAME = f"{autoencoder_kl.STEM}.safetensors"


@pytest.fixture(scope="module")
def theirs():
    torch = required.module("torch")
    torch_networks.torchvision()  # which diffusers imports where it is there
    diffusers = required.module("diffusers.models.autoencoders.autoencoder_kl")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def saved(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    return tmp_path


def test_equals_diffusers(theirs, saved):
    torch = required.module("torch")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    tokenizer = vitok_jax.load(saved, devices=jax.devices()[:1])
    assert repr(tokenizer).startswith("Tokenizer(AutoencoderKL/1x2x4, all: ")
    assert (tokenizer.sides, tokenizer.codec.budget.channels) == ((32,), 4)
    with torch.no_grad():
        mean = theirs.encode(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).latent_dist.mean
        pixels = theirs.decode(mean).sample.permute(0, 2, 3, 1).clip(-1, 1)
    latents = tokenizer.encode(images)
    expected = mean.flatten(2).transpose(1, 2).numpy()
    assert np.abs(latents.tokens - expected).max() / np.abs(expected).max() < 1e-5
    assert np.abs(tokenizer.decode(latents) - pixels.numpy()).max() < 1e-4


def test_names_of_the_first_releases(saved):
    expected = opening.read(saved).params
    new_to_old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in safetensors.numpy.load_file(saved / NAME).items():
        for new, old in new_to_old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        tensors[name] = tensor
    safetensors.numpy.save_file(tensors, saved / NAME)
    jax.tree.map(np.testing.assert_array_equal, opening.read(saved).params, expected)


def test_damage_is_one_line(saved):
    tensors = safetensors.numpy.load_file(saved / NAME)
    name = "decoder.mid_block.resnets.1.conv2.weight"
    for change, said in (
        ({name: tensors[name][:, :2].copy()}, f"tensor {name} has shape"),
        ({name: tensors[name] * np.inf}, f"tensor {name} holds a NaN"),
        ({"more": tensors[name]}, "tensor more is one too many"),
    ):
        safetensors.numpy.save_file({**tensors, **change}, saved / NAME)
        with pytest.raises(errors.UsageError, match=said):
            opening.read(saved)
    safetensors.numpy.save_file({k: v for k, v in tensors.items() if k != name}, saved / NAME)
    with pytest.raises(errors.UsageError, match="mid_block/resnets_1/conv2/kernel is missing"):
        opening.read(saved)
    safetensors.numpy.save_file(tensors, saved / NAME)
    config = json.loads((saved / "config.json").read_text())
    for change, said in (
        ({"_class_name": "VQModel"}, "_class_name: unknown value 'VQModel'"),
        ({"act_fn": "relu"}, "act_fn: unknown value 'relu'"),
        ({"layers_per_block": None}, "allowed: positive integers"),
    ):
        (saved / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(errors.UsageError, match=said):
            opening.read(saved)
