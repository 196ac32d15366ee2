"""Frozen judges and where their weights come from."""
