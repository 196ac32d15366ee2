"""How tests start Python processes of their own."""

import os

COMPILE_FAST = "--xla_backend_optimization_level=0"


def environment(*, devices: int = 1, **extra: str) -> dict[str, str]:
    """That of this process, with so many virtual devices and compilation as in `conftest.py`."""
    flags = f"--xla_force_host_platform_device_count={devices} {COMPILE_FAST}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **extra}
