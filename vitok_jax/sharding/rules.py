"""Logical axis names, and one table per preset that maps them to mesh axes.

Models name what a dimension *is* (`"mlp"`); a preset says where it lies (`"tensor"`). A name that
is not listed here raises, because a misspelt name would otherwise be silently unsharded.
"""

import contextlib
from collections.abc import Iterable, Iterator

import flax.linen as nn
import jax

from vitok_jax import errors

MESH_AXES = ("data", "fsdp", "sequence", "tensor")

LOGICAL_AXES = (
    "batch",  # pictures or clips of a step
    "tokens",  # of one picture
    "kv",  # tokens as keys and values of attention: every query sees all of them
    "patch",  # numbers in one tubelet
    "embed",  # width of the residual stream
    "heads",  # of attention
    "head_dim",  # numbers per head
    "mlp",  # hidden units
    "channels",  # latent numbers per token
    "layers",  # stacked blocks of a scan
    "norm",  # scales and biases of norms, layer scales: small, 1-D
)

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

# The first entry of a name whose mesh axes are still free in an array wins, so an activation
# [batch, tokens, embed] gives `fsdp` to the batch, and a kernel [embed, mlp] gives it to embed.
_BATCH = ("batch", ("data", "fsdp"))
_TABLES: dict[str, Rules] = {
    "dp": (_BATCH,),
    "fsdp": (_BATCH, ("embed", "fsdp")),
    "fsdp_tp": (_BATCH, ("embed", "fsdp"), ("heads", "tensor"), ("mlp", "tensor")),
    "long_video": (
        _BATCH,
        ("tokens", "sequence"),
        ("embed", "fsdp"),
        ("heads", "tensor"),
        ("mlp", "tensor"),
    ),
}
PRESETS = tuple(_TABLES)


def rules(preset: str) -> Rules:
    """The table of a preset, complete: every logical name ends unsharded when nothing else fits.

    Args:
      preset: one of `PRESETS`. `dp` copies the parameters to every device; `fsdp` splits them over
        the mesh axis `fsdp`, which the batch shares; `fsdp_tp` also splits heads and hidden units
        over `tensor`; `long_video` also splits the tokens of one clip over `sequence`.

    Returns:
      Pairs (logical name, mesh axes), in order of precedence, for `nn.logical_axis_rules`.

    Raises:
      UsageError: the preset is unknown.
    """
    if preset not in _TABLES:
        raise errors.unknown("mesh.preset", preset, PRESETS)
    return _TABLES[preset] + tuple((name, None) for name in LOGICAL_AXES)


def mesh_axes_used(preset: str) -> frozenset[str]:
    """Mesh axes that the table of a preset puts to use."""
    return _axes(rules(preset))


def parameter_axes(preset: str) -> frozenset[str]:
    """Mesh axes over which the table of a preset splits parameters."""
    return _axes(pair for pair in rules(preset) if pair[0] not in ("batch", "tokens"))


@contextlib.contextmanager
def use(mesh: jax.sharding.Mesh, preset: str) -> Iterator[None]:
    """Mesh and rules for everything traced inside the block."""
    # `with mesh:` would turn nn.with_logical_constraint into a no-op (flax 0.12.8, jax 0.10.2).
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules(preset)):
        yield


def _axes(table: Iterable[tuple[str, str | tuple[str, ...] | None]]) -> frozenset[str]:
    axes = [axis for _, axis in table if axis is not None]
    return frozenset(a for axis in axes for a in ((axis,) if isinstance(axis, str) else axis))
