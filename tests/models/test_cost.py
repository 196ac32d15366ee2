"""Costs by arithmetic, against the paper's tables, the parameter trees and the compiled program."""

import json
import math
import subprocess
import sys

import jax
import pytest

from tests.models import small
from tests.models.test_transformer import MIXTURES
from vitok_jax.config import ModelConfig
from vitok_jax.errors import UsageError
from vitok_jax.models import tubelets, vitok
from vitok_jax.models.cost import cost

V2 = MIXTURES["follow-up"]


# Paper tables 1, 3, 4 and 5, in millions and billions. It counts tubelets as 768 numbers wide.
@pytest.mark.parametrize(
    ("variant", "shape", "params", "macs", "tokens"),
    [
        ("S-B/16", (1, 256, 256), 129.0, 34.8, 256),
        ("S-L/16", (1, 256, 256), 426.8, 113.4, 256),
        ("S-B/16", (1, 512, 512), 129.0, 160.8, 1024),
        ("S-B/4x8", (16, 128, 128), 129.0, 160.8, 1024),
        ("S-B/8x8", (16, 128, 128), 129.0, 73.2, 512),
        ("S-B/4x16", (16, 128, 128), 129.0, 34.8, 256),
    ],
)
def test_whole_models_of_the_paper(variant, shape, params, macs, tokens):
    ours = cost(ModelConfig(variant=variant), shape)
    assert ours.params_768 / 1e6 == pytest.approx(params, rel=5e-3)
    assert ours.macs_768 / 1e9 == pytest.approx(macs, rel=5e-3)
    assert (ours.tokens, ours.latent_floats) == (tokens, 16 * tokens)
    wide = variant in ("S-B/8x8", "S-B/4x16")
    assert (ours.macs > ours.macs_768) == wide == (ours.params > ours.params_768)


@pytest.mark.parametrize(
    ("letter", "params", "macs"), [("S", 43.3, 11.6), ("B", 85.8, 23.1), ("L", 383.7, 101.8)]
)
def test_halves_of_the_paper(letter, params, macs):
    ours = cost(ModelConfig(variant=f"{letter}-{letter}/16"), (1, 256, 256))
    for half in (ours.encoder, ours.decoder):
        assert half.params / 1e6 == pytest.approx(params, rel=5e-3)
        assert half.macs / 1e9 == pytest.approx(macs, rel=5e-3)


def test_exact_figures():
    ours = cost(ModelConfig(variant="S-B/16"), (1, 256, 256))
    assert (ours.params, ours.macs) == (128_780_576, 34_738_274_304)
    ours = cost(ModelConfig(variant="S-B/4x16"), (16, 128, 128))
    assert ours.macs / 1e9 == pytest.approx(35.6, rel=2e-3)  # 2.5 % above the paper's 34.8


@pytest.mark.parametrize(
    ("variant", "encoder", "decoder"),
    [
        ("v2:Ld4-Ld24/1x16x64", 51_258_944, 303_289_088),
        ("v2:Td4-T/1x16x64", 456_159_296, 4_538_562_304),
        ("v2:Td4-T/1x32x256", 463_827_200, 4_546_232_320),
    ],
)
def test_released_weights_of_the_follow_up(variant, encoder, decoder):
    ours = cost(ModelConfig(variant=variant, **V2), (1, 512, 512))
    assert (ours.encoder.params, ours.decoder.params) == (encoder, decoder)


def _count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "config",
    [small.config(**choices) for choices in MIXTURES.values()]
    + [
        ModelConfig(variant=variant)
        for variant in ("S-B/16", "L-H/32", "S-B/4x16", "v2:Td4-T/1x16x64")
    ],
    ids=str,
)
def test_parameters_equal_those_of_the_module(config):
    model = vitok.build(config)
    tree = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
    tubelet = model.variant.tubelet
    ours = cost(config, (tubelet.frames, tubelet.patch, tubelet.patch))
    assert ours.encoder.params == _count(tree["encoder"])
    assert ours.decoder.params == _count(tree["decoder"])


@pytest.mark.parametrize("choices", MIXTURES.values(), ids=MIXTURES)
def test_products_equal_those_of_the_program(choices):
    """Exactly, as JAX traces it, before any compiler."""
    variant = "w192d1h3-w192d2h3/2x8x16"
    config = ModelConfig(**{**choices, "rope_split": (), "variant": variant})
    shape = (4, 64, 64)
    model = vitok.build(config)
    params = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
    given = jax.eval_shape(lambda: tubelets.patchify(small.inputs(2, shape), model.variant.tubelet))
    program = jax.make_jaxpr(lambda params, rows: model.apply({"params": params}, rows).patches)
    assert _macs(program(params, given).jaxpr) == 2 * cost(config, shape).macs


def _macs(jaxpr) -> int:
    """Multiply-accumulates of all matrix products in a traced program, loops unrolled."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, result = equation.invars[0].aval, equation.outvars[0].aval
            total += math.prod(left.shape[axis] for axis in contracted) * result.size
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        repeats = equation.params.get("length", 1)
        total += repeats * sum(_macs(j) for j in inner if hasattr(j, "eqns"))
    return total


def test_products_are_the_compiled_program():
    """XLA's own count, which adds norms, softmax and activations, is little more."""
    config = ModelConfig(variant="w512d1h8-w512d1h8/16", layers="loop", dtype="float32")
    model = vitok.build(config)
    params = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
    given = jax.eval_shape(
        lambda: tubelets.patchify(small.inputs(1, (1, 256, 256)), model.variant.tubelet)
    )
    run = jax.jit(lambda params, rows: model.apply({"params": params}, rows).patches)
    compiled = run.lower(params, given).compile().cost_analysis()["flops"]
    assert compiled == pytest.approx(2 * cost(config, (1, 256, 256)).macs, rel=0.02)


def test_sizes_that_do_not_divide():
    with pytest.raises(UsageError, match="250x250 pixels do not divide"):
        cost(ModelConfig(variant="S-B/16"), (1, 250, 250))


def _command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "vitok_jax.cost", *arguments], capture_output=True, text=True
    )


def test_command_json():
    done = _command("S-B/16@256", "S-B/4x8@16x128", "S-B/16@2x64x32", "--json")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [(r["variant"], r["size"], r["tokens"]) for r in records] == [
        ("S-B/16", "256", 256),
        ("S-B/4x8", "16x128", 1024),
        ("S-B/16", "2x64x32", 16),
    ]
    assert set(records[0]) == {"variant", "size", "params", "macs", "tokens", "latent_floats"}
    assert records[0]["macs"] == 34_738_274_304


def test_command_table():
    done = _command("S-B/4x16@16x128")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[1].split()
    assert row == ["S-B/4x16", "16x128", "256", "4096", "132.32", "35.64", "128.78", "34.74"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to count"),
        (("S-B/16",), "names no size"),
        (("S-B/16@256", "S-B/16@1x2x3x4"), "size '1x2x3x4' does not parse"),
        (("Q-B/16@256",), "unknown value 'Q'"),
        (("S-B/4x8@6x128",), "6 frames do not divide"),
        (("--jsn",), "jsn"),
    ],
)
def test_command_errors(arguments, said):
    done = _command(*arguments)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""
