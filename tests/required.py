"""What a test needs and a machine may lack: a skip with a reason, or a failure where all is due."""

import importlib
import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it when VITOK_JAX_REQUIRE_ALL says that nothing may be missing."""
    if os.environ.get("VITOK_JAX_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def module(name: str):
    """The module of that name, imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(f"{name} cannot be imported: {error}")
