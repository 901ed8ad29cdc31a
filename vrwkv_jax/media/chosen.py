"""Which frames of a file are taken, by their numbers or by their times; and what is said where there are too few."""

import math
from collections.abc import Iterable, Iterator

from vrwkv_jax.media.clip import ALL, seconds
from vrwkv_jax.media.opened import Frame
from vrwkv_jax.system.errors import UserError, printable

SLACK = 0.5e-3
"""Seconds: files round the times of their frames, Matroska to whole milliseconds."""


class Choice:
    """Is told the time of each frame in their order, and says which are taken.

    ``start`` and ``stride`` in frames count them as they are shown, whatever the time between them. ``start`` as a time
    is counted from the first frame of the file on: the first frame at or after it is taken. From there ``stride`` as a
    time takes the first frame at or after each of its multiples, none of them twice, and ``frames`` as a time takes
    those before it.
    """

    def __init__(self, frames: int | str, start: int | str, stride: int | str):
        self._frames, self._start, self._stride = frames, start, stride
        self.found = self.taken = 0
        self.done = False
        """Whether no later frame is taken."""
        self._file_starts = self._starts = self._last = self._due = 0.0
        self._first = 0

    def takes(self, time: float) -> bool:
        """Whether the next frame, at ``time`` in seconds, is taken."""
        index, self.found = self.found, self.found + 1
        self._last = time
        if index == 0:
            self._file_starts = time
        if self.taken == 0:
            start = seconds(self._start)
            if (index < int(self._start)) if start is None else (time - self._file_starts < start - SLACK):
                return False
            self._starts, self._first = time, index
        since = time - self._starts
        length, stride = seconds(self._frames), seconds(self._stride)
        if length is not None and since >= length - SLACK:
            self.done = True
            return False
        if stride is None:
            if (index - self._first) % int(self._stride):
                return False
        elif since < self._due - SLACK:
            return False
        else:
            self._due = (math.floor((since + SLACK) / stride) + 1) * stride
        self.taken += 1
        self.done = self.taken == self._frames
        return True

    def check(self, name: object, what: str = "") -> None:
        """Raises UserError where the file called ``name``, which has ended, does not hold what was asked for."""
        complaint = None if self.done else self._complaint()
        if complaint is not None:
            raise UserError(f"{what}{printable(name)} {complaint}")

    def _complaint(self) -> str | None:
        frames, start, stride = self._frames, self._start, self._stride
        if isinstance(frames, int) and isinstance(start, int) and isinstance(stride, int):
            return too_short(self.found, frames, start, stride)
        if self.found == 0:
            return too_short(0, 1, 0, 1)
        lasted = self._last - self._file_starts
        lasts = lasted + (lasted / (self.found - 1) if self.found > 1 else 0)  # with the last frame
        if self.taken == 0:
            return (
                f"has {count(self.found)} and lasts {lasts:.3g} s, so that nothing is left from start {start} on: use "
                + (f"at most {self.found - 1}" if seconds(start) is None else f"less than {lasts:.3g}s")
            )
        length, left = seconds(frames), lasts - (self._starts - self._file_starts)
        if length is not None:
            if left >= length - 2 * SLACK:
                return None
            return f"lasts {left:.3g} s from start {start} on, less than frames {frames}: use that or less, or {ALL}"
        if frames == ALL:
            return None
        return (
            f"has {count(self.taken)} from start {start} on with stride {stride}: use that or less, a smaller start or "
            "a smaller stride"
        )


def chosen(frames: Iterable[Frame], choice: Choice, path: object, what: str = "") -> Iterator[Frame]:
    """Those that ``choice`` takes of the ``frames`` of the file ``path``, which is ``what`` ("the mask ").

    Raises:
        UserError: one of them is damaged, or there are too few.
    """
    for frame in frames:
        if choice.takes(frame.time):
            if frame.damaged:
                raise UserError(
                    f"frame {choice.found - 1} of {what}{printable(path)} is damaged: choose other frames, or get the "
                    "file again"
                )
            yield frame
        if choice.done:
            return
    choice.check(path, what)


def too_short(found: int, frames: int, start: int, stride: int) -> str:
    """What is said of a video of ``found`` frames that does not hold the clip asked for, with what it would hold."""
    if found == 0:
        return "holds no frame that can be decoded: it may be empty or damaged"
    most = -(-(found - start) // stride)
    latest = found - 1 - (frames - 1) * stride
    widest = (found - 1 - start) // (frames - 1) if frames > 1 else 0
    ways = [f"at most {count(most)}"] * (most > 0)
    ways += [f"a start of at most {latest}"] * (latest >= 0)
    ways += [f"a stride of at most {widest}"] * (widest > 0)
    ways = ways or [f"a longer video, or from the start at most {count(-(-found // stride))}"]
    needed = start + (frames - 1) * stride + 1
    return (
        f"has {count(found)}; start {start} with stride {stride} and {count(frames)} needs {needed}: "
        f"use {' or '.join(ways)}"
    )


def count(frames: int) -> str:
    return f"{frames} frame{'s' * (frames != 1)}"
