"""How well what should not change was kept: PSNR and SSIM inside a mask, added up frame by frame."""

import numpy as np
from scipy import ndimage

from vrwkv_jax.evaluation.psnr import MOST_DECIBELS
from vrwkv_jax.typing import Bool, Float, UInt8

WINDOW = 7  # pixels
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class Kept:
    """Sums over the frames that were added."""

    def __init__(self) -> None:
        self._squares = self._values = self._similarity = self._windows = 0.0

    def add(
        self, edit: UInt8[np.ndarray, "H W 3"], source: UInt8[np.ndarray, "H W 3"], keep: Bool[np.ndarray, "H W"]
    ) -> None:
        """Another frame, and where in it nothing should change."""
        self._squares += float(np.square(edit[keep].astype(np.float64) - source[keep]).sum())
        self._values += 3 * int(keep.sum())
        if min(keep.shape) >= WINDOW:
            whole = ndimage.minimum_filter(keep, WINDOW)[_inner]
            self._similarity += float(ssim_map(edit, source)[whole].sum())
            self._windows += int(whole.sum())

    @property
    def psnr(self) -> float | None:
        """Decibels of the mean squared error over all that is kept, at most ``MOST_DECIBELS``; None for nothing."""
        if not self._values:
            return None
        error = max(self._squares / self._values, 255**2 / 10 ** (MOST_DECIBELS / 10))
        return float(10 * np.log10(255**2 / error))

    @property
    def ssim(self) -> float | None:
        """The mean over all windows of 7 x 7 pixels that are kept wholly; None where there are none."""
        return self._similarity / self._windows if self._windows else None


_inner = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2


def ssim_map(one: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H-6 W-6"]:
    """Structural similarity (Wang et al. 2004, eq. 13) in windows of 7 x 7 pixels, a mean over the colours.

    Variances are those of samples, as scikit-image has them; only windows that are wholly inside.
    """
    x, y = one.astype(np.float64), other.astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        inside: np.ndarray = ndimage.uniform_filter(values, (WINDOW, WINDOW, 1))[_inner]
        return inside

    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = (sample * (mean(z * z) - m * m) for z, m in ((x, mean_x), (y, mean_y)))
    covariance = sample * (mean(x * y) - mean_x * mean_y)
    likeness = (2 * mean_x * mean_y + LUMINANCE) * (2 * covariance + CONTRAST)
    likeness /= (mean_x**2 + mean_y**2 + LUMINANCE) * (variance_x + variance_y + CONTRAST)
    similarity: np.ndarray = likeness.mean(axis=-1)
    return similarity
