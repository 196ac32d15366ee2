"""ViTok in JAX: train, judge, scale, export and generate with transformer tokenizers."""

__version__ = "0.1.0"
