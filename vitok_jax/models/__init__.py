"""The auto-encoder as flax.linen modules, and what it costs."""
