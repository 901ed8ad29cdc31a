"""Whether a tuning step fits into the device's memory, before the first one runs."""

import warnings
from collections.abc import Callable
from typing import Any

from train.step import tuning_step
from vrwkv_jax.config import TuningConfig
from vrwkv_jax.errors import UserError
from vrwkv_jax.memory import Estimate, estimate


def check_memory(
    clip_shape: tuple[int, ...], config: TuningConfig, say: Callable[[str], object] | None, *arguments: Any
) -> None:
    """Compiles ``tuning_step`` for ``arguments``, which need not be done again, and tells ``say`` the memory it needs.

    ``clip_shape`` is that of the frames, ``F H W 3``. What a computer's memory does not hold is a warning.

    Raises:
        UserError: it is more than a GPU has.
    """
    found = estimate(tuning_step, *arguments)
    if say is not None:
        say(f"tuning needs about {found}")
    if not found.fits:
        message = f"tuning needs about {found}: {_advice(found, clip_shape, config)}"
        if found.is_limit:
            raise UserError(message)
        warnings.warn(message, stacklevel=2)


def _advice(found: Estimate, clip_shape: tuple[int, ...], config: TuningConfig) -> str:
    frames, height, width = clip_shape[:3]
    ways = [f"lower --frames (now {frames})", f"lower --width and --height (now {width}x{height})"]
    if not config.remat:
        ways.append("add --remat")
    if config.dtype == "float32":
        ways.append("compute in --dtype bfloat16")
    if found.is_limit:
        ways.append("let JAX use more of it with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95")
    return ", ".join(ways[:-1]) + f" or {ways[-1]}"
