"""A small clip for when the user has none: a red disc crosses a striped field."""

import numpy as np

from vrwkv_jax.typing import UInt8

PROMPT = "a red disc moves over green stripes"
EDIT_PROMPTS = ("a blue disc moves over green stripes", "a red disc moves over sand")
SAMPLES = 4  # per pixel and axis: smooth edges


def render(frames: int, width: int, height: int) -> UInt8[np.ndarray, "F H W 3"]:
    """The disc crosses the picture in ``frames`` frames, on a shallow arc."""
    rows = (np.arange(height * SAMPLES) + 0.5) / (height * SAMPLES)
    columns = (np.arange(width * SAMPLES) + 0.5) / (width * SAMPLES)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    stripes = np.where((np.floor(8 * (x + y)) % 2)[..., None], (70.0, 140.0, 70.0), (110.0, 180.0, 100.0))
    clip = []
    for along in (np.arange(frames) + 0.5) / frames:
        centre_x, centre_y = 0.2 + 0.6 * along, 0.6 - 0.25 * np.sin(np.pi * along)
        inside = ((x - centre_x) ** 2 + (y - centre_y) ** 2 < 0.16**2)[..., None]
        picture = np.where(inside, (220.0, 50.0, 40.0), stripes)
        clip.append(picture.reshape(height, SAMPLES, width, SAMPLES, 3).mean((1, 3)))
    return np.round(clip).astype(np.uint8)
