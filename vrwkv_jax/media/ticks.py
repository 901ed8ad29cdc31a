"""The times of frames in files that count them in whole ticks."""

import warnings
from fractions import Fraction
from pathlib import Path

from vrwkv_jax.media.writer import Timing
from vrwkv_jax.system.errors import printable


class Ticks:
    """Gives each frame in turn its time: the nearest tick, so that rounding adds up to nothing over the clip."""

    def __init__(self, path: str | Path, timing: Timing, tick: Fraction, least: int):
        """``tick`` in seconds; neighbours are ``least`` of them apart or more, which a warning says of ``path``."""
        self._path, self._timing, self._tick, self._least = path, timing, tick, least
        self._last = -least
        self._told = False
        self.given = 0

    @property
    def usual(self) -> int:
        """For how long the last frame is shown, which has no next one."""
        return max(self._least, round(1 / Fraction(self._timing.fps) / self._tick))

    def next(self) -> int:
        due = round(Fraction(self._timing.time(self.given)) / self._tick)
        # One tick too early is no more than rounding; what is faster all the time falls behind soon.
        if due < self._last + self._least - 1 and not self._told:
            self._told = True
            most = int(1 / self._tick) // self._least
            warnings.warn(
                f"{printable(self._path)} plays slower than its source, for it can show {most} frames per second at "
                "most: choose mp4 for more",
                stacklevel=4,
            )
        self._last = max(self._last + self._least, due)
        self.given += 1
        return self._last
