"""Frames as they come into a clip: on white, in BT.709, scaled to one size."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from vrwkv_jax.media.clip import Fit
from vrwkv_jax.media.colour import HLG, to_bt709
from vrwkv_jax.media.fitting import fitted
from vrwkv_jax.media.opened import Frame
from vrwkv_jax.media.stills import as_bytes
from vrwkv_jax.system.errors import printable
from vrwkv_jax.typing import UInt8


def shown(
    frames: Iterable[Frame], path: object, width: int, height: int, fit: Fit
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The pixels of each of the ``frames`` of the file ``path``; warns of what can't be shown as it is, once."""
    told = set[str]()
    for frame in frames:
        for change in sorted(_changes(frame) - told):
            warnings.warn(f"{printable(path)} {change}", stacklevel=3)
            told.add(change)
        yield _shown(frame, width, height, fit)


def _changes(frame: Frame) -> set[str]:
    """What is told of a frame that cannot be shown as it is."""
    changes = set()
    if frame.light is not None and frame.light.is_hdr:
        kind = "HLG" if frame.light.transfer == HLG else "PQ"
        changes.add(f"is HDR ({kind}): its light is mapped to SDR (BT.709), so that highlights lose contrast")
    if frame.pixels.shape[2:] == (4,) and frame.pixels[..., 3].min() < np.iinfo(frame.pixels.dtype).max:
        changes.add("is transparent in parts: they are shown on white")
    return changes


def _shown(frame: Frame, width: int, height: int, fit: Fit) -> UInt8[np.ndarray, "H W 3"]:
    """A frame on white, in BT.709, scaled."""
    pixels = frame.pixels
    if pixels.ndim == 2:
        pixels = np.repeat(as_bytes(pixels)[..., None], 3, axis=-1)
    if pixels.shape[-1] == 4:
        white = np.iinfo(pixels.dtype).max
        opacity = pixels[..., 3:].astype(np.float32) / white
        pixels = np.rint(white + (pixels[..., :3] - np.float32(white)) * opacity).astype(pixels.dtype)
    scaled = fitted(pixels, frame.pixel_aspect, width, height, fit)
    return scaled if frame.light is None else to_bt709(scaled / 65535, frame.light)
