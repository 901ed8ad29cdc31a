"""Peak signal-to-noise ratio."""

import math

import numpy as np

from vrwkv_jax.typing import UInt8

MOST_DECIBELS = 10 * math.log10(255**2 / 1e-2)  # where means are taken, equal clips must not count infinitely


def psnr(pixels: UInt8[np.ndarray, "*shape"], reference: UInt8[np.ndarray, "*shape"]) -> float:
    """Peak signal-to-noise ratio over all pixels, in dB; infinite for equal ones."""
    error = np.mean((pixels.astype(np.float64) - reference) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
