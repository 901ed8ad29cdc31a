"""A mask seen over its clip."""

import numpy as np

from vrwkv_jax.typing import Bool, UInt8

TINT = (255, 0, 200)
"""A colour that few clips have."""


def overlay(frames: UInt8[np.ndarray, "F H W 3"], mask: Bool[np.ndarray, "F H W"]) -> UInt8[np.ndarray, "F H W 3"]:
    """``frames``, half of the colour ``TINT`` where the ``mask`` is."""
    tinted = (frames.astype(np.uint16) + np.array(TINT, np.uint16)) // 2
    return np.where(mask[..., None], tinted.astype(np.uint8), frames)
