"""PyTorch and back: exported folders, released weights, programs for servers."""
