"""A mask that was drawn on the page, as a picture that ``--mask`` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax.media.fitting import fitted
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Bool

OPAQUE = 128  # from this alpha on a stroke counts, whose border is smooth
SLACK = 0.02  # by which the proportions of a drawing may differ from the clip's


def drawn_mask(value: Mapping[str, Any] | None, *, width: int, height: int) -> Bool[np.ndarray, "H W"]:
    """What is painted in any layer of ``gr.ImageEditor(type="numpy")``, whatever the colour, at the size of the clip.

    ``value`` has "layers", each ``UInt8[h w 4]`` (RGBA); background and composite are not looked at.

    Raises:
        UserError: nothing is painted, or the drawing has other proportions than the clip.
        ValueError: a layer has no alpha.
    """
    layers = [np.asarray(layer) for layer in (value or {}).get("layers") or ()]
    if any(layer.ndim != 3 or layer.shape[2] != 4 for layer in layers):
        raise ValueError(f"layers are RGBA, found {[layer.shape for layer in layers]}")
    painted = [layer[..., 3] >= OPAQUE for layer in layers]
    if not any(layer.any() for layer in painted):
        raise UserError("nothing is painted on the mask: paint over what may change")
    for layer in painted:
        rows, columns = layer.shape
        if abs(columns / rows / (width / height) - 1) > SLACK:
            raise UserError(
                f"the mask is painted on {columns}x{rows} pixels, and the clip has {width}x{height}: paint on a frame "
                "of the clip"
            )
    places = np.zeros((height, width), bool)
    for layer in painted:
        places |= fitted(255 * layer.astype(np.uint8), 1, width, height, "stretch") > 127
    if not places.any():
        raise UserError("what is painted is smaller than a pixel of the clip: paint with a larger brush")
    return places


def save_drawn_mask(value: Mapping[str, Any] | None, path: str | Path, *, width: int, height: int) -> None:
    """Writes ``drawn_mask`` as a PNG, white where it is painted, which holds for all frames of a clip.

    Raises:
        UserError: as ``drawn_mask``, or the file cannot be written.
    """
    places = drawn_mask(value, width=width, height=height)
    save_png(path, np.repeat(255 * places[..., None].astype(np.uint8), 3, axis=-1))
