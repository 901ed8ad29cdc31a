"""Where, when and with what figures were measured."""

import datetime
import platform
from importlib.metadata import version
from typing import Any

import jax


def about() -> dict[str, Any]:
    """Device, versions and date, for a file of results."""
    versions = {
        package: version(package) for package in ("vrwkv-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
    }
    return {
        "device": jax.devices()[0].device_kind,
        "versions": {"python": platform.python_version()} | versions,
        "date": datetime.date.today().isoformat(),
    }
