"""The clip of a long run: frames that are made or decoded when they are asked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from vrwkv_jax import built_in
from vrwkv_jax.config import ClipConfig
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import render_frame


@runtime_checkable
class LongClip(Protocol):
    """Frames of one size, in chunks; see ``VideoReader``."""

    def __len__(self) -> int: ...

    def chunks(self, size: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "n H W 3"]]: ...

    def timing(self, fps: float | None = None) -> Timing: ...

    def digest(self) -> str: ...


@dataclass(frozen=True)
class BuiltInClip:
    """``built_in.clip``, of so many ``frames``."""

    frames: int
    width: int
    height: int

    def __len__(self) -> int:
        return self.frames

    def chunks(self, size: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
        side = max(self.width, self.height)
        left, top = (side - self.width) // 2, (side - self.height) // 2
        for begin in range(first * size, self.frames, size):
            along = np.linspace(0, 1, self.frames)[begin : begin + size] if self.frames > 1 else np.array([0.5])
            drawn = np.stack([render_frame(built_in.SCENE, float(moment), side)[0] for moment in along])
            yield drawn[:, top : top + self.height, left : left + self.width]

    def timing(self, fps: float | None = None) -> Timing:
        return Timing(fps or built_in.FPS)

    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


def open_clip(config: ClipConfig) -> LongClip:
    """The clip that ``config`` names, with the number of its frames.

    Raises:
        UserError: as ``VideoReader`` does.
    """
    if config.video is None:
        return BuiltInClip(config.count, config.width, config.height)
    return VideoReader(config.video, **config.reading)
