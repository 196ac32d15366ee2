"""What a test needs and a machine may lack: a skip with a reason, or a failure where all is due."""

import importlib
import importlib.util
import os
import pathlib
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it when VITOK_JAX_REQUIRE_ALL says that nothing may be missing."""
    if os.environ.get("VITOK_JAX_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """Path of an installed program."""
    return shutil.which(name) or missing(f"the program {name} is not installed")


def weights(*names: str) -> None:
    """Asks for weight files by their keys in `backbones.weights.WEIGHTS`."""
    from vitok_jax.backbones import weights as weights_lib

    for name in names:
        try:
            weights_lib.locate(name)
        except weights_lib.MissingWeights as error:
            missing(str(error))


def folder(package: str) -> pathlib.Path:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        missing(f"the package {package} is not installed")
    return pathlib.Path(spec.origin).parent


def module(name: str):
    """The module of that name, imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(f"{name} cannot be imported: {error}")
