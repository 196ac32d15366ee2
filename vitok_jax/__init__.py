"""ViTok in JAX: train, judge, scale, export and generate with transformer tokenizers."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, so that data workers and `--help` do not pay for JAX.
    if name in ("load", "Tokenizer"):
        from vitok_jax import tokenizer

        return getattr(tokenizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
