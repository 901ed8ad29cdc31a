"""Which device a program is being traced for: the one that is there, or one that is only described."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh


class Device(NamedTuple):
    """What decides which code a device can run."""

    platform: str
    """"cpu", "gpu", "tpu"."""
    kind: str
    """The device's name, such as "NVIDIA H200"."""
    capability: tuple[int, int] | None = None
    """The compute capability of an NVIDIA GPU."""


_described: ContextVar[Device | None] = ContextVar("described_device", default=None)


def target_device() -> Device:
    """The device that the program traced now is for: the one of ``compiling_for``, else JAX's default device."""
    if (described := _described.get()) is not None:
        return described
    default = jax.config.jax_default_device  # type: ignore[attr-defined]
    device = default if isinstance(default, jax.Device) else jax.devices(default)[0]
    capability = None
    if device.platform == "gpu" and "nvidia" in device.device_kind.lower():
        major, minor = str(device.compute_capability).split(".")  # AMD's have names instead
        capability = int(major), int(minor)
    return Device(device.platform, device.device_kind, capability)


@contextmanager
def compiling_for(device: Device, mesh: AbstractMesh) -> Iterator[None]:
    """Traces and lowers for a ``device`` that need not be there.

    ``mesh`` has the same device as its ``abstract_device``: JAX keeps what it has traced apart by that, so each kind of
    device needs a name of its own.
    """
    token = _described.set(device)
    try:
        with jax.sharding.use_abstract_mesh(mesh):
            yield
    finally:
        _described.reset(token)
