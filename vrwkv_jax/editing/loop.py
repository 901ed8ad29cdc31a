"""The one loop of inversion, sampling and null-text inversion: what goes on after each of their steps."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.typing import Array, Float

Callback = Callable[[int, int, Array], object]
"""Called after every step with (step, timestep, latents), step counted from 0. Returning False ends the run there."""


@dataclass(frozen=True)
class AfterStep:
    """Looks at what a step gave, keeps it, and tells the callback. ``likely`` is the cause of numbers not finite."""

    what: str
    total: int
    likely: str
    callback: Callback | None

    def __call__(
        self,
        step: int,
        timestep: int | np.integer,
        latents: Float[Array, "N F h w D"],
        keep: Callable[[], object] | None = None,
    ) -> bool:
        """Whether to go on after ``step``, which is counted from 0.

        Raises:
            UserError: ``latents`` are not all finite; then nothing is kept.
        """
        check_finite(latents, f"step {step + 1} of {self.total} of {self.what}", self.likely)
        if keep is not None:
            keep()
        return self.callback is None or self.callback(step, int(timestep), jax.block_until_ready(latents)) is not False
