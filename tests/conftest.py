"""Settings of the test process, made before JAX wakes up, and fixtures that several rooms share."""

import os
import pathlib

from tests import processes

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
# Nearly all of a test's time goes into compiling; unoptimised code compiles three times as fast.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        processes.COMPILE_FAST,
    ]
).strip()

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder of check data that lies beside a checkout on the project's own machines."""
    folder = pathlib.Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the check data beside the checkout (../shared) is absent")
    return folder
