"""Pictures brought to the size of a clip."""

import numpy as np
from PIL import Image

from vrwkv_jax.media.clip import Fit


def fitted(picture: np.ndarray, pixel_aspect: float, width: int, height: int, fit: Fit) -> np.ndarray:
    """Scale a picture to ``width x height`` with a Lanczos filter that widens when shrinking (no aliasing).

    Pictures ``H W`` or ``H W 3`` of 8 bits stay such; others become float32, whose ripples may leave the range.
    """
    full_height, full_width = picture.shape[:2]
    kept_width, kept_height = float(full_width), float(full_height)
    if fit == "crop":
        proportion = width / height / pixel_aspect
        kept_width = min(kept_width, full_height * proportion)
        kept_height = min(kept_height, full_width / proportion)
    left, top = (full_width - kept_width) / 2, (full_height - kept_height) / 2
    if (kept_width, kept_height) == (width, height):  # nothing to scale: half a pixel would only blur
        left, top = left // 1, top // 1
    box = (left, top, left + kept_width, top + kept_height)

    def resized(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS, box=box))

    if picture.dtype == np.uint8:
        return resized(np.ascontiguousarray(picture))
    return np.stack([resized(plane) for plane in np.moveaxis(picture.astype(np.float32), -1, 0)], axis=-1)
