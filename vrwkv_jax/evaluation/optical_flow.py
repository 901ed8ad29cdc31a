"""Optical flow by OpenCV's DIS (Kroeger et al. 2016), and the error of frames that it warps; OpenCV is optional."""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from vrwkv_jax.typing import Bool, Float, UInt8

LEAST_SIDE = 16  # pixels: its patches have 8, and below 12 OpenCV refuses
# Of the check forward against backward: Sundaram et al. 2010, eq. 5.
RELATIVE, ABSOLUTE = 0.01, 0.5


@cache
def opencv() -> Any | None:
    """The module ``cv2``, or None where it is not installed."""
    try:
        return importlib.import_module("cv2")
    except ImportError:
        return None


@dataclass(frozen=True)
class Correspondence:
    """Where each pixel of a frame was in the frame before."""

    places: Float[np.ndarray, "H W 2"]
    """x and y in the frame before, in pixels."""
    visible: Bool[np.ndarray, "H W"]
    """Whether it was to be seen there: within the picture, and forward flow leads back from there."""


def correspondence(before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]) -> Correspondence:
    """By the flow between two frames, of which no side is shorter than ``LEAST_SIDE``.

    With ``b`` the flow from ``after`` to ``before`` and ``f`` that from ``before`` to ``after`` (preset "medium"),
    pixel ``p`` was at ``p + b(p)``, and is visible where
    ``|b + f|^2 <= 0.01 (|b|^2 + |f|^2) + 0.5``, ``f`` being taken at ``p + b(p)``.
    """
    cv2 = _module()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = dis.calc(*grey, None), dis.calc(*reversed(grey), None)
    height, width = grey[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = backward + np.stack([x, y], axis=-1)
    inside = ((places >= 0) & (places <= [width - 1, height - 1])).all(axis=-1)
    there = _at(forward, places)
    gap, one, other = (np.square(flow).sum(axis=-1) for flow in (backward + there, backward, there))
    return Correspondence(places, inside & (gap <= RELATIVE * (one + other) + ABSOLUTE))


def warp_differences(
    before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"], places: Float[np.ndarray, "H W 2"]
) -> Float[np.ndarray, "H W"]:
    """How far ``after`` is from ``before`` warped to it (bilinear): mean over the colours of |difference|, 0 to 255."""
    difference: np.ndarray = np.abs(_at(before.astype(np.float32), places) - after).mean(axis=-1)
    return difference


def _at(values: Float[np.ndarray, "H W C"], places: Float[np.ndarray, "H W 2"]) -> Float[np.ndarray, "H W C"]:
    """``values`` between pixels; beyond the border those at it."""
    cv2 = _module()
    found: np.ndarray = cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found


def _module() -> Any:
    module = opencv()
    if module is None:
        raise RuntimeError("OpenCV is not installed")
    return module
