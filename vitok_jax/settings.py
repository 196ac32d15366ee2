"""Settings dataclasses to and from `ml_collections.ConfigDict`, with every value checked."""

import dataclasses
import math
import typing
from typing import Any, TypeVar

import ml_collections

from vitok_jax import errors

ConfigT = TypeVar("ConfigT")

Positive = typing.Annotated[int, "positive"]
_MAY_BE_NEGATIVE = ("data", "fsdp")  # -1 in a mesh takes the devices that are left


def to_config_dict(config: Any) -> ml_collections.ConfigDict:
    """A locked `ConfigDict` with the fields of a settings dataclass, nested ones included."""
    return ml_collections.ConfigDict(dataclasses.asdict(config)).lock()


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict of a settings dataclass, ready for JSON."""
    return dataclasses.asdict(config)


def from_config_dict(
    cls: type[ConfigT], values: ml_collections.ConfigDict | dict[str, Any], path: str = "config"
) -> ConfigT:
    """Builds and checks a settings dataclass.

    Args:
      cls: the dataclass, for example `TokenizerConfig`.
      values: nested mapping; a missing key takes its default.
      path: name of this level in error messages.

    Returns:
      The dataclass.

    Raises:
      UsageError: a key is unknown, or a value has the wrong type or is not among those allowed.
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    if not isinstance(values, dict):
        raise errors.UsageError(f"{path}: {values!r} is not a mapping of settings")
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints:
            raise errors.unknown(f"{path}, key", key, hints)
    fields = {
        key: from_config_dict(hints[key], value, f"{path}.{key}")
        if dataclasses.is_dataclass(hints[key])
        else _checked(hints[key], value, f"{path}.{key}")
        for key, value in values.items()
    }
    return cls(**fields)


def _checked(hint: Any, value: Any, path: str) -> Any:
    """The value as its annotation wants it, or a `UsageError` that names the key."""
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise errors.unknown(path, value, allowed)
        return value
    if typing.get_origin(hint) is tuple:
        return _checked_tuple(hint, value, path)
    positive = hint is Positive
    wanted = int if positive else hint
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise errors.UsageError(f"{path}: {value!r} is not of type {wanted.__name__}")
    if positive and value < 1:
        raise errors.UsageError(f"{path}: {value} is too small; allowed: 1 and more")
    if isinstance(value, float) and not math.isfinite(value):
        raise errors.UsageError(f"{path}: {value} is not a finite number")
    if not isinstance(value, str) and value < 0 and path.rpartition(".")[2] not in _MAY_BE_NEGATIVE:
        raise errors.UsageError(f"{path}: {value} is negative; allowed: 0 and more")
    return value


def _checked_tuple(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    """A tuple of the annotated element types; lists are taken for tuples."""
    if not isinstance(value, (tuple, list)):
        raise errors.UsageError(f"{path}: {value!r} is not a tuple")
    kinds = typing.get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise errors.UsageError(f"{path}: {value!r} has {len(value)} entries, not {len(kinds)}")
    return tuple(
        _checked(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    )
