"""Where parameters and batches lie."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitok_jax import errors
from vitok_jax.config import MeshConfig, ModelConfig
from vitok_jax.models import vitok
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules


def boxed(width: int) -> dict:
    module = vitok.build(ModelConfig(variant=f"w{width}d1h2-w{width}d2h2/1x8x4"))
    return jax.eval_shape(lambda key: vitok.boxed_params(module, key), jax.random.key(0))


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (MeshConfig(preset="fsdp", fsdp=8), 8),
        (MeshConfig(preset="fsdp_tp", fsdp=4, tensor=2), 8),
        (MeshConfig(preset="long_video", fsdp=2, sequence=2), 2),
    ],
)
def test_real_parameters_are_split(config: MeshConfig, parts: int) -> None:
    mesh = mesh_lib.make_mesh(config)
    tree = boxed(64)
    placed = placement.shardings(tree, mesh, config.preset)
    found = placement.report(nn.meta.unbox(tree), placed)
    placement.check(found, mesh, config.preset)
    assert found.whole_share < placement.MAX_WHOLE_SHARE
    # The first and last matrix have neither heads nor hidden units to split over `tensor`.
    assert found.per_device < found.total / parts * 1.25
    assert found.largest_whole


def test_replication_is_reported_and_not_refused_under_dp() -> None:
    mesh = mesh_lib.make_mesh(MeshConfig())
    tree = boxed(64)
    found = placement.report(nn.meta.unbox(tree), placement.shardings(tree, mesh, "dp"))
    assert found.whole_share == 1 and found.per_device == found.total
    placement.check(found, mesh, "dp")


def test_a_mesh_that_divides_no_width_is_refused() -> None:
    mesh = mesh_lib.make_mesh(MeshConfig(preset="fsdp", fsdp=8))
    tree = boxed(20)
    found = placement.report(nn.meta.unbox(tree), placement.shardings(tree, mesh, "fsdp"))
    with pytest.raises(errors.UsageError, match=r"100 % of the parameters cannot be split over fs"):
        placement.check(found, mesh, "fsdp")


def test_arrays_without_names_are_whole_and_unknown_names_raise() -> None:
    mesh = mesh_lib.make_mesh(MeshConfig(preset="fsdp", fsdp=8))
    plain = placement.shardings({"step": jnp.zeros(())}, mesh, "fsdp")
    assert plain["step"].spec == jax.sharding.PartitionSpec()
    wrong = nn.LogicallyPartitioned(jnp.zeros((8, 8)), ("embde", "mlp"))
    with pytest.raises(ValueError, match="embde"):
        placement.shardings({"w": wrong}, mesh, "fsdp")


def test_batches_are_split_by_rows_over_data_and_fsdp() -> None:
    mesh = mesh_lib.make_mesh(MeshConfig(preset="fsdp_tp", fsdp=2, tensor=2))
    pixels = np.arange(8 * 3, dtype=np.uint8).reshape(8, 3)
    batch = placement.put_batch({"pixels": pixels}, mesh)
    assert placement.batch_shards(mesh) == 4
    assert batch["pixels"].dtype == np.uint8
    assert batch["pixels"].sharding.shard_shape((8, 3)) == (2, 3)
    np.testing.assert_array_equal(batch["pixels"], pixels)


def test_rules_are_in_force_inside_use_only() -> None:
    mesh = mesh_lib.make_mesh(MeshConfig())
    assert not nn.get_logical_axis_rules()
    with rules.use(mesh, "dp"):
        assert nn.get_logical_axis_rules() == rules.rules("dp")
    assert not nn.get_logical_axis_rules()
