"""Clips of any length from files, chunk by chunk: which frames are chosen is found before any of them is kept."""

import hashlib
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vrwkv_jax.media.chosen import Choice, chosen
from vrwkv_jax.media.clip import Fit, check_clip, check_fps
from vrwkv_jax.media.opened import FPS, opened
from vrwkv_jax.media.shown import shown
from vrwkv_jax.media.sound import Sound, has_sound
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.system.errors import UserError, printable, setting
from vrwkv_jax.typing import Float, UInt8

ROUNDED = 1e-3
"""Seconds by which frames of a constant rate miss their times at most, where a file rounds these to milliseconds."""
IN_TIME = 0.04
"""Seconds by which sound may be early without being noticed, by EBU R 37."""


class VideoReader:
    """The frames chosen of a video, as those of ``read_video``, which stay in the file until they are asked for.

    Whatever is held in memory grows by 8 bytes per frame.
    """

    times: Float[np.ndarray, " N"]
    """When each is shown, in seconds from the first one on."""

    def __init__(
        self,
        path: str | Path,
        *,
        frames: int | str,
        start: int | str = 0,
        stride: int | str = 1,
        width: int,
        height: int,
        fit: Fit = "crop",
    ):
        """Decodes the file up to the last frame of the clip. The arguments are those of ``read_video``.

        Raises:
            UserError: as ``read_video`` does.
        """
        check_clip(frames=frames, start=start, stride=stride, width=width, height=height, fit=fit)
        self.path, self.stride = Path(path), stride
        self._which, self._size = (frames, start, stride), (width, height, fit)
        with opened(path) as file:
            times = np.array([frame.time for frame in chosen(file.frames, Choice(*self._which), path)])
        self._starts, self.times = float(times[0]), times - times[0]
        with opened(path) as file:
            fps = file.fps() or FPS
        if isinstance(stride, int):
            self._fps = fps / stride
        else:
            self._fps = (len(times) - 1) / self.times[-1] if len(times) > 1 else fps

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """How long it is shown: the last frame as long as the others on average."""
        return float(self.times[-1] / (len(self) - 1) * len(self)) if len(self) > 1 else 1 / self._fps

    def chunks(self, size: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "n H W 3"]]:
        """The frames, ``size`` at a time (the last chunk has what is left), from chunk ``first`` on.

        The file is decoded from its beginning, and what is not asked for is left unseen.

        Raises:
            UserError: the file has changed since it was opened, or is damaged now.
        """
        width, height, fit = self._size
        with opened(self.path) as file:
            wanted = itertools.islice(chosen(file.frames, Choice(*self._which), self.path), first * size, None)
            pictures = shown(wanted, self.path, width, height, fit)
            for begin in range(first * size, len(self), size):
                count = min(size, len(self) - begin)
                chunk = np.empty((count, height, width, 3), np.uint8)
                filled = 0
                for filled, picture in enumerate(itertools.islice(pictures, count), start=1):
                    chunk[filled - 1] = picture
                if filled < count:
                    raise UserError(f"{printable(self.path)} has changed while it was read: start again")
                yield chunk

    def timing(self, fps: float | None = None) -> Timing:
        """How the clip is written: with its own times and sound, or ``fps`` frames per second.

        A warning says where its sound is left out, as the clip would end before or after it.

        Raises:
            UserError: its frames are so many or few in a second that no clip is written so.
        """
        sound = None
        if not os.path.isdir(self.path) and has_sound(self.path):
            sound = Sound(self.path, self._starts, self.seconds)
        if fps is not None:
            lasts = len(self) / fps
            if sound is not None and abs(lasts - self.seconds) > IN_TIME:
                warnings.warn(
                    f"the sound of {printable(self.path)} is left out: with {setting('fps', round(fps, 3))} the clip "
                    f"lasts {lasts:.2f} s, in the source {self.seconds:.2f} s",
                    stacklevel=2,
                )
                sound = None
            return Timing(fps, sound=sound)
        even = np.abs(self.times - np.arange(len(self)) / self._fps).max() <= ROUNDED
        mean = self._fps if even else len(self) / self.seconds
        which = f"{printable(self.path)} with stride {self.stride}"
        check_fps(mean, f"it is what {which} has; choose another with {setting('fps')}")
        return Timing(mean, None if even else self.times, sound)

    def digest(self) -> str:
        """SHA-256 of the file, or the pictures in the folder, and of what is chosen of it."""
        whole = hashlib.sha256(repr((self._which, self._size)).encode())
        files = sorted(os.listdir(self.path)) if os.path.isdir(self.path) else [""]
        for name in files:
            if not name.startswith("."):
                with open(self.path / name, "rb") as file:
                    whole.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()
