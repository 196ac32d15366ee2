"""What an error that nothing caught means to the processes of a run."""

import jax
import pytest

from vitok_jax.sharding import processes


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("message", "peer"),
    [
        ("UNAVAILABLE: Gloo all-reduce failed: connection closed by peer", True),
        ("INTERNAL: collective timed out", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 18G", False),
        ("INVALID_ARGUMENT: shapes differ", False),
    ],
)
def test_only_what_a_peer_can_cause_is_worth_another_try(
    monkeypatch: pytest.MonkeyPatch, message: str, peer: bool
) -> None:
    def leave(code: int) -> None:
        assert code == processes.EXIT_PEER
        raise Ended

    monkeypatch.setattr(processes.os, "_exit", leave)
    error = jax.errors.JaxRuntimeError(message)
    if peer:
        with pytest.raises(Ended):
            processes._end(type(error), error, None)
    else:
        processes._end(type(error), error, None)
