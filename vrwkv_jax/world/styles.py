"""Styles as exact operations on a picture, each frame for itself."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from vrwkv_jax.typing import Float

_BLOCKS = 16  # of pixel art, per side
LUMINANCE = np.array((0.299, 0.587, 0.114))


def apply_style(style: str, picture: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    """``picture`` (0 to 1) in one of the styles of ``scene.STYLES``."""
    styled: np.ndarray = np.clip(_STYLES[style](picture), 0, 1)
    return styled


def _pixel_art(picture: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    """Blocks of one colour."""
    side = picture.shape[0]
    if side % _BLOCKS:
        raise ValueError(f"pixel art of {side} pixels: expected a multiple of {_BLOCKS}")
    block = side // _BLOCKS
    means = picture.reshape(_BLOCKS, block, _BLOCKS, block, 3).mean((1, 3))
    blocks: np.ndarray = means.repeat(block, 0).repeat(block, 1)
    return blocks


def _sketch(picture: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    """Dark lines where the colour changes, on paper that is faintly shaded."""
    down, right = np.gradient(_blur(picture, 1), axis=(0, 1))
    lines = np.clip(5 * np.hypot(down, right).max(axis=2) - 0.15, 0, 1)
    grey = (0.8 + 0.17 * picture @ LUMINANCE) * (1 - 0.85 * lines)
    return np.repeat(grey[..., None], 3, axis=2)


def _watercolour(picture: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    """Pale colours that run into each other, on uneven paper."""
    side = picture.shape[0]
    at = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(at, at)
    stain = 0.05 * np.sin(2 * np.pi * (1.7 * x + 0.4 * np.sin(2 * np.pi * y))) * np.cos(2 * np.pi * 1.4 * y)
    painted: np.ndarray = 0.62 * _blur(picture, max(1, side // 64)) + 0.36 + stain[..., None]
    return painted


def _blur(picture: Float[np.ndarray, "S S 3"], radius: int) -> Float[np.ndarray, "S S 3"]:
    """Two box filters, along both axes; the border is continued."""
    width = 2 * radius + 1
    for _ in range(2):
        picture = ndimage.uniform_filter(picture, width, mode="nearest", axes=(0, 1))
    return picture


_STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda picture: picture,
    "pixel art": _pixel_art,
    "sketch": _sketch,
    "watercolour": _watercolour,
}
