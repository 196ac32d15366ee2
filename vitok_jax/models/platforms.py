"""Which kind of device a program is compiled for."""

import jax


def platform() -> str:
    """What is compiled for, `cpu`, `gpu` or `tpu`: the mesh in use, else JAX's default backend.

    A program for TPUs can be compiled where there are none; only its mesh knows.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
