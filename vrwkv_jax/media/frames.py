"""Clips of any length, one frame at a time, at their own size."""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from vrwkv_jax.media import opened as opened_frames
from vrwkv_jax.media.chosen import too_short
from vrwkv_jax.media.opened import opened
from vrwkv_jax.media.shown import shown
from vrwkv_jax.media.video import length
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8

Frame = UInt8[np.ndarray, "H W 3"]


def read_frames(path: str | Path) -> Iterator[Frame]:
    """The frames of a video, RGB from 0 to 255, as ``read_video`` reads them, none of them kept.

    Raises:
        UserError: the file is not a readable video, or a frame of it is damaged.
    """
    with opened(path) as file:
        frames = _undamaged(file.frames, path)
        first = next(frames, None)
        if first is None:
            raise UserError(f"{printable(path)} {too_short(0, 1, 0, 1)}")
        height, width = first.pixels.shape[:2]
        yield from shown(chain([first], frames), path, max(1, round(width * first.pixel_aspect)), height, "stretch")


def _undamaged(frames: Iterator[opened_frames.Frame], path: str | Path) -> Iterator[opened_frames.Frame]:
    for index, frame in enumerate(frames):
        if frame.damaged:
            raise UserError(f"frame {index} of {printable(path)} is damaged: get the file again")
        yield frame


def read_together(paths: Sequence[str | Path]) -> Iterator[list[Frame]]:
    """The frames of several clips, those of one moment at a time.

    Raises:
        UserError: as ``read_frames``; or the clips have other sizes or other numbers of frames than the first.
    """
    for index, frames in enumerate(zip_longest(*map(read_frames, paths))):
        for path, frame in zip(paths, frames, strict=True):
            if (frame is None) != (frames[0] is None):
                longer, shorter = (path, paths[0]) if frames[0] is None else (paths[0], path)
                raise UserError(
                    f"{printable(shorter)} ends after {index} frames and {printable(longer)} goes on: give a clip and "
                    "its edit, frame by frame"
                )
            if frame is not None and frame.shape != frames[0].shape:
                raise UserError(
                    f"{printable(path)} is {_size(frame)} and {printable(paths[0])} is {_size(frames[0])}: scale one "
                    "of them to the size of the other"
                )
        yield list(frames)


def check_lengths(paths: Sequence[str | Path]) -> int:
    """About how many frames each of ``paths`` has; of what files say of themselves, where they agree.

    Raises:
        UserError: a file is not a readable video; or by decoding all of them, they have different numbers of frames.
    """
    lengths = [length(path) for path in paths]
    if len(set(lengths)) > 1:  # which some codecs have wrong
        lengths = [sum(1 for _ in read_frames(path)) for path in paths]
    for path, found in zip(paths, lengths, strict=True):
        if found != lengths[0]:
            raise UserError(
                f"{printable(path)} has {found} frames and {printable(paths[0])} {lengths[0]}: give a clip and its "
                "edit, frame by frame"
            )
    return lengths[0]


def _size(frame: Frame) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"
