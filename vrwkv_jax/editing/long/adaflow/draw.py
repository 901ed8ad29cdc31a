"""Which frame of each clip is its keyframe in a step of sampling."""

from collections.abc import Sequence

import numpy as np


def draw(seed: int, step: int, starts: Sequence[int], frames: int) -> list[int]:
    """A frame of each clip, all alike likely, of a video of so many ``frames`` with clips that begin at ``starts``.

    What is drawn for a clip depends on nothing but ``seed``, ``step``, the clip's number, and where it begins and ends.
    By numpy's ``SeedSequence``, which gives the same in all of its versions, and in all of JAX's.
    """
    ends = [*starts[1:], frames]
    return [
        start + (_random_bits(seed, step, clip) * (end - start) >> 64)
        for clip, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _random_bits(seed: int, step: int, clip: int) -> int:
    return int(np.random.SeedSequence((seed % 2**64, step, clip)).generate_state(1, np.uint64)[0])
