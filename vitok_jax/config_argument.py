"""The argument of a config file: what follows the colon of `--config=FILE.py:key=value,...`."""

from typing import TypeVar

from vitok_jax import errors

Value = TypeVar("Value", int, float, str)


def parse(text: str | None, defaults: dict[str, Value]) -> dict[str, Value]:
    """Reads `key=value,key=value`.

    Args:
      text: what stands behind the colon of `--config`; None or empty takes every default.
      defaults: every key with the value it takes when it is not named; the type of a default is
        the type of its key.

    Returns:
      A value for every key.

    Raises:
      UsageError: a part is not `key=value`, or its key, type or repetition is wrong.
    """
    values = dict(defaults)
    named: set[str] = set()
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals:
            raise errors.UsageError(f"config argument {part!r} is not of the form key=value")
        if key not in defaults:
            raise errors.unknown("config argument", key, defaults)
        if key in named:
            raise errors.UsageError(f"config argument {key!r} is given twice")
        named.add(key)
        kind = type(defaults[key])
        try:
            values[key] = kind(value)
        except ValueError:
            raise errors.UsageError(
                f"config argument {key}: {value!r} is not of type {kind.__name__}"
            ) from None
    return values
