"""Tests; a package, because installed ones carry a folder of the same name."""
