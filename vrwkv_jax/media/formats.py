"""Clips in the forms in which they are passed on: mp4, GIF, WebP, or a folder of PNG pictures, chunk by chunk."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vrwkv_jax.media.clip import check_fps
from vrwkv_jax.media.gif import gif_writer
from vrwkv_jax.media.new_directory import new_directory
from vrwkv_jax.media.webp import webp_writer
from vrwkv_jax.media.writer import CRF, Timing, video_writer
from vrwkv_jax.typing import UInt8

Format = Literal["mp4", "gif", "webp", "png"]
PICTURE = re.compile(r"\d{5,}\.png")
"""The names in a folder of frames."""


@contextmanager
def clip_writer(
    path: str | Path, timing: float | Timing, format: Format = "mp4", crf: int = CRF
) -> Iterator[Callable[[UInt8[np.ndarray, "n H W 3"]], None]]:
    """Write RGB frames in a ``format``, whatever the name of ``path``; the function given writes the next ones.

    - ``mp4``: ``video_writer`` at ``crf``, the only one with sound.
    - ``gif``: one palette of 255 colours for the clip, ordered dither, times in hundredths of a second, two of them
      or more. The frames wait on the disk, lossless, until the palette is known.
    - ``webp``: lossless, times in milliseconds.
    - ``png``: the folder ``path`` with ``00000.png``, ``00001.png``, ... A folder of such names is replaced; of the
      times nothing is kept.

    Memory does not grow with the number of frames. The file, or the folder, appears under its name when the block
    succeeds; otherwise what was there before stays. Equal frames and times make equal bytes (of the same versions of
    PyAV and Pillow), in whatever chunks they come.

    Raises:
        UserError: ``timing`` makes no sense, ``path`` cannot be written, or the format holds no clip as large.
        ValueError: no frames, or not as many as a ``Timing`` has times.
    """
    if not isinstance(timing, Timing):
        timing = Timing(timing)
    check_fps(timing.fps)
    if format == "mp4":
        with video_writer(path, timing, crf) as write:
            yield write
    elif format == "gif":
        with gif_writer(path, timing) as write:
            yield write
    elif format == "webp":
        with webp_writer(path, timing) as write:
            yield write
    else:
        with _picture_writer(Path(path), timing) as write:
            yield write


def write_clip(
    path: str | Path,
    frames: UInt8[np.ndarray, "F H W 3"],
    timing: float | Timing,
    format: Format = "mp4",
    crf: int = CRF,
) -> None:
    """Write RGB frames in one go: see ``clip_writer``.

    Raises:
        UserError, ValueError: as ``clip_writer`` does.
    """
    with clip_writer(path, timing, format, crf) as write:
        write(frames)


@contextmanager
def _picture_writer(path: Path, timing: Timing) -> Iterator[Callable[[UInt8[np.ndarray, "n H W 3"]], None]]:
    with new_directory(path, replaces=_holds_frames_alone) as folder:
        written = 0

        def write(frames: UInt8[np.ndarray, "n H W 3"]) -> None:
            nonlocal written
            for frame in frames:
                Image.fromarray(frame).save(folder / f"{written:05}.png")
                written += 1

        yield write
        timing.check(written)


def _holds_frames_alone(folder: Path) -> bool:
    return all(PICTURE.fullmatch(name) for name in os.listdir(folder))
