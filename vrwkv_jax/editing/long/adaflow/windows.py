"""Which keyframes attend to each other, where there are more than memory has room for."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Keyframes from ``start`` on that are one batch. The output for those in ``kept`` is used."""

    start: int
    kept: range


def windows(count: int, most: int) -> list[Window]:
    """Windows of min(``count``, ``most``) keyframes each, spread evenly over all ``count``, all of one size.

    Where two overlap, the middle of the overlap is the border between what they are used for: each keyframe comes from
    the window in which it has the more neighbours on its shorter side.
    """
    size = min(count, most)
    starts = np.linspace(0, count - size, -(-count // size)).round().astype(int).tolist()
    borders = [0, *[(later + earlier + size) // 2 for earlier, later in pairwise(starts)], count]
    return [Window(start, range(*ends)) for start, ends in zip(starts, pairwise(borders), strict=True)]
