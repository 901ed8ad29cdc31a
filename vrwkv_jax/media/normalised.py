"""Pictures as CLIP and DINO want them: scaled to a square, with the mean and the deviation of their training."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vrwkv_jax.typing import Float, UInt8


@dataclass(frozen=True)
class Normalisation:
    """``(value - mean) / deviation`` for each of red, green and blue, from 0 to 1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __call__(self, picture: UInt8[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
        scaled = picture / 255
        normalised: np.ndarray = ((scaled - self.mean) / self.deviation).astype(np.float32)
        return normalised


CLIP_NORMALISATION = Normalisation(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)  # of OpenAI's training set
IMAGENET_NORMALISATION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def centre_square(picture: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """CLIP's: the shorter side becomes ``size`` (bicubic, the longer one rounded down), and the middle is cut out."""
    height, width = picture.shape[:2]
    shorter = min(height, width)
    scaled = _resized(picture, size * width // shorter, size * height // shorter, Image.Resampling.BICUBIC)
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


def squeezed_square(picture: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """That of transformers' ``ViTImageProcessor`` (bilinear): all of the picture, out of proportion if need be."""
    return _resized(picture, size, size, Image.Resampling.BILINEAR)


def _resized(picture: np.ndarray, width: int, height: int, filter: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), filter))
