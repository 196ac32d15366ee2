"""Tables of axis rules: complete, without misspelt names, of known meshes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from vitok_jax import config, errors
from vitok_jax.models import layers
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import rules


@pytest.mark.parametrize("preset", rules.PRESETS)
def test_every_name_ends_somewhere(preset: str) -> None:
    table = rules.rules(preset)
    assert {name for name, _ in table} == set(rules.LOGICAL_AXES)
    assert rules.mesh_axes_used(preset) <= set(rules.MESH_AXES)


def test_presets_are_those_of_the_settings() -> None:
    for preset in rules.PRESETS:
        config.from_config_dict(config.MeshConfig, {"preset": preset})
    with pytest.raises(errors.UsageError, match="did you mean 'fsdp'"):
        rules.rules("fspd")


@pytest.mark.parametrize(
    ("preset", "names", "expected"),
    [
        ("dp", ("embed", "mlp"), (None, None)),
        ("dp", ("batch", "tokens", "embed"), (("data", "fsdp"), None, None)),
        ("fsdp", ("layers", "embed", "heads", "head_dim"), (None, "fsdp", None, None)),
        ("fsdp", ("batch", "tokens", "embed"), (("data", "fsdp"), None, None)),
        ("fsdp_tp", ("layers", "embed", "mlp"), (None, "fsdp", "tensor")),
        ("fsdp_tp", ("batch", "kv", "heads", "head_dim"), (("data", "fsdp"), None, "tensor", None)),
        ("long_video", ("batch", "tokens", "embed"), (("data", "fsdp"), "sequence", None)),
        (
            "long_video",
            ("batch", "kv", "heads", "head_dim"),
            (("data", "fsdp"), None, "tensor", None),
        ),
    ],
)
def test_where_dimensions_lie(preset: str, names: tuple, expected: tuple) -> None:
    assert tuple(nn.logical_to_mesh_axes(names, rules.rules(preset))) == expected


def test_parameter_axes() -> None:
    assert rules.parameter_axes("dp") == frozenset()
    assert rules.parameter_axes("fsdp") == {"fsdp"}
    assert rules.parameter_axes("long_video") == {"fsdp", "tensor"}


def test_constraints_hold_inside_and_misspelt_names_raise() -> None:
    mesh = mesh_lib.make_mesh(config.MeshConfig(preset="dp"))

    def halve(x: jax.Array, name: str) -> jax.Array:
        return layers.constrain(x, name, "embed") / 2

    with rules.use(mesh, "dp"):
        y = jax.jit(halve, static_argnums=1)(jnp.ones((16, 4)), "batch")
        assert y.sharding.shard_shape(y.shape) == (2, 4)
        with pytest.raises(ValueError, match="did not match a rule"):
            jax.jit(halve, static_argnums=1)(jnp.ones((16, 4)), "bacth")
