"""Clips of a few frames from files, and into them."""

from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax.media.chosen import Choice, chosen, too_short
from vrwkv_jax.media.clip import Fit, check_clip
from vrwkv_jax.media.opened import FPS, opened
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.shown import shown
from vrwkv_jax.media.writer import Timing, video_writer
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8


def read_video(
    path: str | Path,
    *,
    frames: int | str,
    start: int | str = 0,
    stride: int | str = 1,
    width: int,
    height: int,
    fit: Fit = "crop",
) -> UInt8[np.ndarray, "F H W 3"]:
    """Read frames ``start, start + stride, ...`` of a video (``frames`` of them), as RGB from 0 to 255.

    Any container and codec of FFmpeg will do (mp4, webm, mkv, avi), animations and pictures (GIF, WebP, AVIF, PNG,
    TIFF, JPEG), and folders with a picture of one size for each frame, in the order of the numbers in their names.
    Frames are counted as they are shown, whatever the time between them, or chosen by their times: see ``Choice``. They
    look as in a player: turned and mirrored, with non-square pixels, of the film where there are previews and covers
    besides, interlaced ones made whole, wide colours as BT.709. A warning says where HDR is mapped to SDR, and where
    transparent places are shown, on white. Decoding stops at the last frame needed, and only the resized frames are
    kept.

    Args:
        frames: how many; or, as are ``start`` and ``stride``, a time, such as ``"1.5s"``; or ``"all"``.
        width: of the result, in pixels; a multiple of 8, as is ``height``.
        fit: ``"crop"`` scales the picture, in proportion, until it covers the size and cuts what stands over, half on
            either side; ``"stretch"`` scales the whole picture to the size, out of proportion if need be.

    Raises:
        UserError: a value that ``check_clip`` refuses, a file that is not a readable video, or one that is too short.
    """
    check_clip(frames=frames, start=start, stride=stride, width=width, height=height, fit=fit)
    which: dict[str, Any] = {"start": start, "stride": stride, "width": width, "height": height, "fit": fit}
    count = frames if isinstance(frames, int) else len(VideoReader(path, frames=frames, **which))
    try:
        clip = np.empty((count, height, width, 3), np.uint8)
    except (MemoryError, ValueError) as error:
        raise UserError(f"{count} frames of {width}x{height} do not fit into memory: use fewer or smaller") from error
    with opened(path) as file:
        pictures = shown(chosen(file.frames, Choice(frames, start, stride), path), path, width, height, fit)
        for index, picture in enumerate(pictures):
            clip[index] = picture
    return clip


def video_fps(path: str | Path) -> float:
    """The mean number of frames per second of a video.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path) as file:
        return file.fps() or FPS


def length(path: str | Path, what: str = "video") -> int:
    """About how many frames a video has; of a few codecs some that are never shown count, too.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path, what) as file:
        return file.length()


def proportion(path: str | Path) -> float:
    """The width of a video over its height, as it is shown.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path) as file:
        for frame in file.frames:
            return frame.proportion
    raise UserError(f"{printable(path)} {too_short(0, 1, 0, 1)}")


def write_video(path: str | Path, frames: UInt8[np.ndarray, "F H W 3"], fps: float | Timing = 8) -> None:
    """Write RGB frames as an mp4, in one go: see ``video_writer``, whose ``timing`` is ``fps``.

    Raises:
        UserError: ``fps`` makes no sense, or the file cannot be written.
        ValueError: no frames, or not as many as a ``Timing`` has.
    """
    with video_writer(path, fps) as write:
        write(frames)
