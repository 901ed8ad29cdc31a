"""Which clips' keyframes the frames of a chunk take from."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.long.adaflow.propagation import Taking


@dataclass(frozen=True)
class Neighbours:
    """The clips of a video that begin at ``starts``, and how many frames on both sides of a border are blended.

    The second keyframe's weight falls from 1/2 at the border between the clips to 0 at ``blend`` frames from it. Frames
    near two borders take from the nearer one, the one before if both are as near.
    """

    starts: Sequence[int]
    blend: int

    def of(self, frame: int) -> tuple[int, int, float]:
        """The frame's clip, the other one that it takes from, and the weight of that; the same and 0: it takes from
        none other."""
        clip = bisect_right(self.starts, frame) - 1
        borders = [(frame + 0.5 - self.starts[clip], clip - 1)] if clip > 0 else []
        if clip + 1 < len(self.starts):
            borders.append((self.starts[clip + 1] - frame - 0.5, clip + 1))
        distance, other = min(borders, default=(0.0, clip))
        if not borders or distance >= self.blend:
            return clip, clip, 0.0
        return clip, other, (1 - distance / self.blend) / 2

    def clips(self, frames: Sequence[int]) -> list[int]:
        """All clips that ``frames`` take from, which are neighbours of each other where the frames are."""
        return sorted({clip for frame in frames for clip in self.of(frame)[:2]})

    def taking(self, frames: Sequence[int], clips: Sequence[int], drawn: Sequence[int]) -> Taking:
        """What ``frames`` take from the keyframes of ``clips``; ``drawn`` has one for each clip of the video."""
        of_frames = [self.of(frame) for frame in frames]
        pairs = [[found[0] for found in of_frames], [found[1] for found in of_frames]]
        second = np.array([found[2] for found in of_frames], np.float32)
        weights = np.stack([1 - second, second])
        places = {clip: place for place, clip in reversed(list(enumerate(clips)))}
        keyframes = np.array([[places[clip] for clip in row] for row in pairs], np.int32)
        is_own = np.array(
            [[drawn[clip] == frame for clip, frame in zip(row, frames, strict=True)] for row in pairs], bool
        )
        times = 2 if self.blend else 1
        return Taking(*(jnp.asarray(rows[:times]) for rows in (keyframes, weights, is_own)))
