"""A clip that is too long to be tuned on at once: every step sees a part of it."""

from dataclasses import dataclass

import numpy as np

from vrwkv_jax.typing import Float


@dataclass(frozen=True)
class Windows:
    """Runs of ``frames`` frames out of the ``latents`` of a whole clip, N of them at least, which may be mapped to a
    file. ``height`` and ``width`` are those of the frames, in pixels.
    """

    latents: Float[np.ndarray, "N h w D"]
    frames: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """That of the pixels of a window, ``F H W 3``."""
        return self.frames, self.height, self.width, 3

    def of_step(self, seed: int, step: int) -> Float[np.ndarray, "1 F h w D"]:
        """What ``step`` of the tuning sees. It follows from the seed and the step alone, for a tuning to be resumed."""
        last = len(self.latents) - self.frames
        first = int(np.random.default_rng((seed, step)).integers(last + 1))
        return np.array(self.latents[None, first : first + self.frames], np.float32)
