"""A clip cut into chunks of frames, all of one length but the last, and in which order the model sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.typing import Float

ReadChunk = Callable[[int], Float[np.ndarray, "B f h w C"]]
"""From the number of a chunk to its frames, of the last one as many as there are."""


class Swept(NamedTuple):
    """The first ``frames`` of a ``chunk``, as a sweep back goes over them: to the state behind the chunk before it."""

    chunk: int
    frames: int


@dataclass(frozen=True)
class Chunks:
    """``frames`` in chunks, through which the model goes as ``streaming`` says: from the first to the last, and in some
    modes back before."""

    frames: int
    streaming: Streaming

    @property
    def length(self) -> int:
        """How many frames the model sees at once."""
        return self.streaming.chunk_frames

    @property
    def count(self) -> int:
        return -(-self.frames // self.length)

    def frames_of(self, chunk: int) -> int:
        """How many frames ``chunk`` has."""
        return min(self.length, self.frames - chunk * self.length)

    @property
    def window(self) -> int:
        """Most frames of a ``Swept``."""
        exact = self.streaming.stream_mode == "exact"
        return self.length if exact else min(self.streaming.look_ahead, self.length)

    def swept_first(self) -> list[Swept]:
        """Over what the model sweeps back, in this order, before it sees the first chunk."""
        if self.streaming.stream_mode != "exact":
            return []
        return [Swept(chunk, self.frames_of(chunk)) for chunk in reversed(range(1, self.count))]

    def swept_before(self, chunk: int) -> list[Swept]:
        """Over what it sweeps back, in this order, before it sees ``chunk``."""
        if self.streaming.stream_mode != "look_ahead":
            return []
        ahead = -(-self.streaming.look_ahead // self.window)
        found = range(chunk + 1, min(chunk + ahead, self.count - 1) + 1)
        left = [self.streaming.look_ahead - i * self.window for i in range(len(found))]
        swept = [Swept(i, min(self.frames_of(i), most)) for i, most in zip(found, left, strict=True)]
        return swept[::-1]

    @property
    def sweeps(self) -> int:
        """How many there are of both."""
        return len(self.swept_first()) + sum(len(self.swept_before(chunk)) for chunk in range(self.count))
