"""Which implementation of an op runs: asked for by name, or the fastest that the device can run."""

import jax
import jax.numpy as jnp

from pallas_kernels.device import Device, target_device

IMPLEMENTATIONS = ("reference", "scan", "mosaic")


def implementation_for(name: str | None = None, dtype: jax.typing.DTypeLike = jnp.float32) -> str:
    """The implementation that runs when ``name`` is asked for, for the device that is traced for.

    Args:
        name: one of ``IMPLEMENTATIONS``; None or "auto": "mosaic" where it can run, else "scan".
        dtype: of the tokens.

    Raises:
        ValueError: there is none of that name, or it can't run.
    """
    if name not in (None, "auto", *IMPLEMENTATIONS):
        raise ValueError(f"implementation is {name!r}; choose one of {', '.join(IMPLEMENTATIONS)}, or auto")
    if name in ("reference", "scan"):
        return name
    obstacle = _obstacle_to_kernels(jnp.dtype(dtype), target_device())
    if name == "mosaic" and obstacle:
        raise ValueError(f"implementation 'mosaic' can't run: {obstacle}; 'scan' and 'reference' can")
    return "scan" if obstacle else "mosaic"


def implementation_in_pieces(name: str | None, dtype: jax.typing.DTypeLike) -> str:
    """``implementation_for`` a piece of a sequence, which the formula of a whole one knows nothing of."""
    chosen = implementation_for(name, dtype)
    if chosen == "reference":
        raise ValueError("implementation 'reference' takes whole sequences on one device: choose 'scan' or 'mosaic'")
    return chosen


def _obstacle_to_kernels(dtype: jnp.dtype, device: Device) -> str | None:
    """Why the GPU kernels can't run, if they can't."""
    if dtype.itemsize > 4:
        return f"it computes in float32 and the tokens are {dtype}"
    if device.capability is None:
        return f"it needs an NVIDIA GPU and the device is {device.kind}"
    capability = ".".join(map(str, device.capability))
    if device.capability < (8, 0):
        return f"it needs compute capability 8.0 and {device.kind} has {capability}"
    if jax.__version_info__ < (0, 11) and device.capability != (9, 0):
        return f"jax {jax.__version__} compiles it for compute capability 9.0 alone; jax 0.11 does for 8.0 and later"
    return None
