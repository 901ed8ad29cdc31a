"""The colours of a decoded frame: which matrix and range made them, and what a screen of BT.709 shows of them.

Codes are those of ITU-T H.273, which FFmpeg and containers share.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from vrwkv_jax.system.errors import printable
from vrwkv_jax.typing import Float, UInt8

# libswscale's flags, as numbers since older PyAV names them in part: bicubic, full chroma interpolation, accurate
# rounding. Bicubic alone darkens a picture by one level of 255 each time that it is read.
SCALER = 0x4 | 0x2000 | 0x40000
UNSPECIFIED, BT709, BT2020 = 2, 1, 9
PQ, HLG = 16, 18
# libswscale's numbers for the matrices of H.273; as numbers, too.
ITU709, ITU601, ITU2020 = 1, 5, 9
MATRICES = {1: ITU709, 4: 4, 5: ITU601, 6: ITU601, 7: 7, 9: ITU2020, 10: ITU2020}
# x and y of red, green, blue and white
PRIMARIES = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), (0.3127, 0.3290)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290)),  # Display P3
}
REFERENCE_WHITE = 203  # cd/m2, of HDR: ITU-R BT.2408
PEAK = 1000  # cd/m2, of HLG's nominal screen; brighter places of PQ are clipped
KNEE = 0.7  # of reference white: darker light stays as it is, brighter light is compressed
GAMMA = 2.4  # of an SDR screen: ITU-R BT.1886


@dataclass(frozen=True)
class Light:
    """How numbers from 0 to 1 stand for light, where that is not as in BT.709."""

    transfer: int
    primaries: int

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)


def light(frame: VideoFrame) -> Light | None:
    """What must be mapped to BT.709 to show a frame; None where its numbers can stay."""
    primaries = int(frame.color_primaries)
    hdr = frame.color_trc in (PQ, HLG)
    if primaries not in PRIMARIES:
        primaries = BT2020 if hdr or (primaries == UNSPECIFIED and frame.colorspace in (9, 10)) else BT709
    return Light(int(frame.color_trc), primaries) if hdr or primaries != BT709 else None


def rgb(frame: VideoFrame, path: object) -> np.ndarray:
    """A frame as RGB, or RGBA where it has an alpha channel, in its own light: of 8 bits, or 16 where ``light`` is.

    Where the file doesn't say by which matrix its colours are meant, HD is taken as BT.709, less as BT.601.
    """
    alpha = any(component.is_alpha for component in frame.format.components)
    deep = light(frame) is not None
    options: dict[str, Any] = {}
    if not frame.format.is_rgb:
        options["src_colorspace"] = _matrix(frame, path)
    return frame.to_ndarray(
        format=("rgba" if alpha else "rgb24") if not deep else ("rgba64le" if alpha else "rgb48le"),
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=SCALER,
        **options,
    )


def _matrix(frame: VideoFrame, path: object) -> int:
    if frame.colorspace in MATRICES:
        return MATRICES[frame.colorspace]
    if frame.colorspace not in (0, UNSPECIFIED):
        warnings.warn(
            f"the colours of {printable(path)} are coded in a way that is not supported (matrix {frame.colorspace} of "
            "H.273): they may be wrong; convert it to BT.709 first",
            stacklevel=2,
        )
    if frame.color_primaries == BT2020:
        return ITU2020
    return ITU709 if frame.width >= 1280 or frame.height > 576 else ITU601


def to_bt709(picture: Float[np.ndarray, "H W 3"], light: Light) -> UInt8[np.ndarray, "H W 3"]:
    """What a screen of BT.709 shows of a picture in another light.

    HDR's reference white comes out a little below white. Light up to ``KNEE`` of it stays as it is; what is brighter is
    compressed by FFmpeg's and libplacebo's Möbius curve, colour by colour alike, so that hues stay. Colours that
    BT.709 lacks are clipped.
    """
    linear = _linear(np.clip(picture, 0, 1).astype(np.float32), light)
    shown = np.maximum(linear @ _between(light.primaries, BT709).T, 0)
    if light.is_hdr:
        most = shown.max(axis=-1, keepdims=True)
        shown *= np.divide(_mobius(most, KNEE, PEAK / REFERENCE_WHITE), most, out=np.ones_like(most), where=most > 0)
    screen: np.ndarray = np.rint(255 * np.minimum(shown, 1) ** (1 / GAMMA)).astype(np.uint8)
    return screen


def _linear(signal: Float[np.ndarray, "H W 3"], light: Light) -> Float[np.ndarray, "H W 3"]:
    """The light of a screen; of HDR, 1 is reference white. Formulas of ITU-R BT.2100."""
    if light.transfer == PQ:
        root = signal ** (32 / 2523)
        return (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305) * (
            10000 / REFERENCE_WHITE
        )
    if light.transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        luminance = scene @ _to_xyz(light.primaries)[1]
        linear: np.ndarray = scene * luminance[..., None] ** 0.2 * (PEAK / REFERENCE_WHITE)
        return linear
    return signal**GAMMA


def _mobius(light: np.ndarray, knee: float, peak: float) -> np.ndarray:
    """Up to ``knee`` the light itself, from there on smoothly to 1 at ``peak``."""
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    return np.where(light <= knee, light, (b**2 + 2 * b * knee + knee**2) / (b - a) * (light + a) / (light + b))


def _between(source: int, target: int) -> np.ndarray:
    """The matrix from the linear light of some primaries to that of others."""
    matrix: np.ndarray = (np.linalg.inv(_to_xyz(target)) @ _to_xyz(source)).astype(np.float32)
    return matrix


def _to_xyz(primaries: int) -> np.ndarray:
    *colours, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in PRIMARIES[primaries])
    columns = np.stack(colours, axis=1)
    return columns * np.linalg.solve(columns, white)
