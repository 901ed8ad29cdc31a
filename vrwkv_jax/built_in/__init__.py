"""What the package brings along: a small model, trained on the rendered world, and a clip of that world.

``MODEL`` is a Stable Diffusion checkpoint like any other; its model card is ``shapes/README.md``.
"""

from pathlib import Path

import numpy as np

from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import Scene, Thing, caption, edit, render

MODEL = Path(__file__).parent / "shapes"
SCENE = Scene((Thing("star", "yellow", motion="circle"),), "sunset")
"""A combination of shape, colour and background that the model has not been trained on."""
EDITS = (edit(SCENE, colour="blue"), edit(SCENE, background="night"), edit(SCENE, style="watercolour"))
PROMPT = caption(SCENE)
EDIT_PROMPTS = tuple(caption(scene) for scene in EDITS)
FPS = 8


def clip(frames: int, width: int, height: int) -> UInt8[np.ndarray, "F H W 3"]:
    """The clip of ``SCENE``; of a picture that is not square, the middle."""
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    return render(SCENE, frames, side)[0][:, top : top + height, left : left + width]
