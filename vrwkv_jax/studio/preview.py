"""What will be taken of a clip: its first frame with what is cropped in the dark, and the frames that are chosen."""

from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax import built_in
from vrwkv_jax.config import ClipConfig
from vrwkv_jax.media.video import read_video
from vrwkv_jax.studio.uploads import cropped, whole_size
from vrwkv_jax.typing import UInt8

SHOWN = 8
"""Frames at most."""
SIDE = 128
"""Pixels of the longer side of a frame."""


def whole_frame(clip: ClipConfig) -> UInt8[np.ndarray, "H W 3"]:
    """The first frame, all of it, with what is cropped in the dark.

    Raises:
        UserError: it can't be read.
    """
    if clip.video is None:
        return np.array(built_in.clip(1, 320, 320)[0])
    width, height = whole_size(Path(clip.video))
    reading: dict[str, Any] = {**clip.reading, "frames": 1, "width": width, "height": height, "fit": "stretch"}
    picture = read_video(clip.video, **reading)[0]
    left, top, right, bottom = cropped(width, height, clip.width / clip.height, clip.fit)
    shown = np.array(picture // 4)
    shown[top:bottom, left:right] = picture[top:bottom, left:right]
    return shown


def chosen_frames(clip: ClipConfig) -> UInt8[np.ndarray, "H W 3"]:
    """The frames that are chosen, next to each other as they will be seen; of many, some.

    Raises:
        UserError: the clip doesn't have as many, or can't be read.
    """
    scale = SIDE / max(clip.width, clip.height)
    width, height = (max(8, round(size * scale / 8) * 8) for size in (clip.width, clip.height))
    if clip.video is None:
        frames = built_in.clip(clip.count, width, height)
    else:
        reading: dict[str, Any] = {**clip.reading, "width": width, "height": height}
        frames = read_video(clip.video, **reading)
    shown = frames[np.linspace(0, len(frames) - 1, min(len(frames), SHOWN)).round().astype(int)]
    gap = np.full((height, 4, 3), 255, np.uint8)
    row = [piece for frame in shown for piece in (frame, gap)][:-1]
    return np.concatenate(row, axis=1)
