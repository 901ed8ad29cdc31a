"""A clip cut into chunks of frames, all of one length but the last."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vrwkv_jax.typing import Float

ReadChunk = Callable[[int], Float[np.ndarray, "B f h w C"]]
"""From the number of a chunk to its frames, of the last one as many as there are."""


@dataclass(frozen=True)
class Chunks:
    """``frames`` in chunks of ``length``."""

    frames: int
    length: int

    @property
    def count(self) -> int:
        return -(-self.frames // self.length)

    def frames_of(self, chunk: int) -> int:
        """How many frames ``chunk`` has."""
        return min(self.length, self.frames - chunk * self.length)


def filled(frames: Float[np.ndarray, "B f h w C"], length: int) -> Float[np.ndarray, "B F h w C"]:
    """``length`` frames: the last one stands for those that are missing, which ``MixerChunk.frames`` leaves out."""
    missing = length - frames.shape[1]
    return np.concatenate([frames, *[frames[:, -1:]] * missing], axis=1) if missing else frames
