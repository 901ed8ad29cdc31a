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
from vrwkv_jax.world.film import Film, Shot


@runtime_checkable
class LongClip(Protocol):
    """Frames of one size, in chunks; see ``VideoReader``."""

    def __len__(self) -> int: ...

    def chunks(self, size: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "n H W 3"]]: ...

    def timing(self, fps: float | None = None) -> Timing: ...

    def digest(self) -> str: ...


@dataclass(frozen=True)
class FilmClip:
    """A film of the rendered world; of a picture that is not square, the middle."""

    film: Film
    width: int
    height: int

    def __len__(self) -> int:
        return self.film.frames

    def chunks(self, size: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
        side = max(self.width, self.height)
        left, top = (side - self.width) // 2, (side - self.height) // 2
        for begin in range(first * size, len(self), size):
            drawn = np.stack([picture for picture, _ in self.film.pictures(side, begin, min(begin + size, len(self)))])
            yield drawn[:, top : top + self.height, left : left + self.width]

    def timing(self, fps: float | None = None) -> Timing:
        return Timing(fps or built_in.FPS)

    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


def built_in_clip(frames: int, width: int, height: int) -> FilmClip:
    """``built_in.clip``, of which a chunk at a time is drawn."""
    return FilmClip(Film((Shot(built_in.SCENE, frames),)), width, height)


def open_clip(config: ClipConfig) -> LongClip:
    """The clip that ``config`` names, with the number of its frames.

    Raises:
        UserError: as ``VideoReader`` does.
    """
    if config.video is None:
        return built_in_clip(config.count, config.width, config.height)
    return VideoReader(config.video, **config.reading)
