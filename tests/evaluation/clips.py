"""Clips whose true motion is known, and what may become of them."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from tests.media.videos import LOSSLESS, make


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise, 0 to 255, in float64."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width, 3)), (3, 3, 0))
    values -= values.min(axis=(0, 1))
    return 255 * values / values.max(axis=(0, 1))


def moving(frames: int = 7, height: int = 45, width: int = 60, step: tuple[int, int] = (1, 2), seed: int = 0):
    """A camera that goes over a texture by ``step`` (rows, columns) a frame: the picture moves the other way."""
    whole = texture(height + frames * step[0], width + frames * step[1], seed).round().astype(np.uint8)
    corners = [(frame * step[0], frame * step[1]) for frame in range(frames)]
    return np.stack([whole[top : top + height, left : left + width] for top, left in corners])


def jittered(clip: np.ndarray, amount: float = 0.03) -> np.ndarray:
    """Every other frame brighter, the others darker."""
    factors = 1 + amount * (-1) ** np.arange(len(clip))
    return np.clip(np.rint(clip * factors[:, None, None, None]), 0, 255).astype(np.uint8)


def frozen(clip: np.ndarray) -> np.ndarray:
    return np.repeat(clip[:1], len(clip), axis=0)


def write(path: Path, clip: np.ndarray) -> Path:
    """Without loss."""
    return Path(make(path, clip, **LOSSLESS))
