"""From which keyframes each chunk takes, and in which passes these are made: the same in every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.neighbours import Neighbours
from vrwkv_jax.editing.long.adaflow.windows import Window, windows


@dataclass(frozen=True)
class Cut:
    """A video of so many ``frames``, in chunks of ``size``, with clips that begin at ``starts``."""

    frames: int
    size: int
    starts: Sequence[int]

    @property
    def chunks(self) -> range:
        return range(-(-self.frames // self.size))

    def of_chunk(self, chunk: int) -> list[int]:
        """The frames of a chunk; a last one that is shorter is filled up with its last frame."""
        first = chunk * self.size
        return [min(frame, self.frames - 1) for frame in range(first, first + self.size)]


@dataclass(frozen=True)
class Schedule:
    """Of a video that is ``cut``: the clips that chunks take from, and the windows in which these have their pass."""

    cut: Cut
    config: AdaFlowConfig

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours(self.cut.starts, self.config.blend_frames)

    @cached_property
    def clips(self) -> list[list[int]]:
        """Those that the frames of each chunk take from, filled up with the last to as many for all."""
        found = [self.neighbours.clips(self.cut.of_chunk(chunk)) for chunk in self.cut.chunks]
        most = max(map(len, found))
        return [own + own[-1:] * (most - len(own)) for own in found]

    @cached_property
    def windows(self) -> list[Window]:
        return windows(len(self.cut.starts), self.config.max_keyframes)

    @property
    def keyframes(self) -> int:
        """How many one pass takes."""
        return min(self.config.max_keyframes, len(self.cut.starts))

    def windows_of(self, chunk: int) -> list[int]:
        """Of each of the chunk's clips the number of its window."""
        return [next(i for i, window in enumerate(self.windows) if clip in window.kept) for clip in self.clips[chunk]]

    @cached_property
    def most_windows(self) -> int:
        """Most that the frames of one chunk take from."""
        return max(of[-1] - of[0] + 1 for of in map(self.windows_of, self.cut.chunks))

    @cached_property
    def passes(self) -> int:
        """How many a step has: one for each window that a chunk takes from."""
        return len({number for chunk in self.cut.chunks for number in self.windows_of(chunk)})

    @property
    def frames_asked(self) -> int:
        """For how many frames a step asks the model, in each row."""
        return len(self.cut.chunks) * self.cut.size + self.passes * self.keyframes
