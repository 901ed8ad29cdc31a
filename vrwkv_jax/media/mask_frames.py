"""Masks of any length, one frame at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vrwkv_jax.media.mask import Seen, _places, warn_of_grey
from vrwkv_jax.media.opened import opened
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import Bool


def stream_mask(
    path: str | Path, *, width: int, height: int, effect: str = "may change"
) -> tuple[int, Iterator[Bool[np.ndarray, "H W"]]]:
    """How many frames a mask has, and what it chooses in each of them, one at a time, by the rules of ``read_mask``.

    ``effect`` is what a warning says of what it chooses.

    Raises:
        UserError: the file is not a readable picture or clip, or has other proportions than ``width`` and ``height``.
    """
    count = 0
    with opened(path, "mask") as file:
        seen = Seen(file.lossless)
        for frame in file.frames:
            if frame.damaged:
                raise UserError(f"frame {count} of the mask {printable(path)} is damaged: get the file again")
            if abs(frame.proportion / (width / height) - 1) > 0.02:
                raise UserError(
                    f"the mask {printable(path)} has the proportions {frame.proportion:.2f}:1, the clip "
                    f"{width / height:.2f}:1: make it as wide and high as the clip"
                )
            seen.add(frame)
            count += 1
    if count == 0:
        raise UserError(f"the mask {printable(path)} holds no frame that can be decoded: it may be empty or damaged")
    warn_of_grey(path, seen, effect)

    def places() -> Iterator[Bool[np.ndarray, "H W"]]:
        with opened(path, "mask") as file:
            for frame in file.frames:
                yield _places(frame, seen.meaning, seen.trace, width, height, "stretch")

    return count, places()
