"""Errors that a user can cause, and how a binary ends on them."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the thing, its value and what is allowed. Binaries print it
    and exit with code 2 (see `vitok_jax.cli`); in Python it is an ordinary `ValueError`.
    """


def unknown(kind: str, name: object, allowed: Iterable[object]) -> UsageError:
    """Error for a name outside a closed set, with the nearest allowed name where there is one.

    Args:
      kind: what is named, for example `"loss.pixel"`.
      name: what the user gave.
      allowed: every name that would have been accepted.

    Returns:
      The error, to be raised by the caller.
    """
    names = [str(a) for a in allowed]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"{kind}: unknown value {str(name)!r}{hint}; allowed: {', '.join(names)}")
