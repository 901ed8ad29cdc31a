"""Masks: where a clip may change, as painters and segmentation tools write it."""

import itertools
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from vrwkv_jax.media.chosen import Choice, chosen
from vrwkv_jax.media.clip import Fit
from vrwkv_jax.media.fitting import fitted
from vrwkv_jax.media.opened import Frame, opened
from vrwkv_jax.media.stills import full_scale
from vrwkv_jax.system.errors import printable
from vrwkv_jax.typing import Bool

OPAQUE = 0.5  # from this opacity on
TRACE = 0.15  # what a lossy codec leaves of black, or of a grey without colour, at most
FEW = 1e-3  # of the pixels: what so few are says nothing about the whole


class Meaning(Enum):
    """What of a mask may change."""

    OPAQUE = "what is opaque"
    OPAQUE_AND_BRIGHT = "what is opaque and brighter than half"
    NOT_BLACK = "what is not black"
    LABELLED = "what has a label other than 0"
    BRIGHT = "what is brighter than half"


@dataclass
class Seen:
    """What the frames of a mask are like, from which its meaning is told."""

    exact: bool  # whether numbers are those that were meant, none of them the trace of a codec
    transparent: bool = False
    two_tone: bool = True  # where opaque, black and white and hardly anything between
    black: bool = False
    white: bool = False
    coloured: bool = False
    zero: bool = False
    most: float = 0.0  # of the numbers below white
    grey: float = 0.0  # share of the pixels that are neither black nor white, in the greyest frame

    def add(self, frame: Frame) -> None:
        values, opacity = _values(frame)
        visible = opacity >= OPAQUE
        # A picture in colours that was a JPEG once shows it by their number.
        self.exact &= frame.pixels.ndim == 2 or len(np.unique(_colour_codes(frame.pixels))) <= 256
        self.transparent |= not visible.all()
        brightness = values.mean(axis=-1)
        light, dark = visible & (brightness >= 0.75), visible & (brightness < 0.25)
        self.white |= bool(light.any())
        self.black |= bool(dark.any())
        between = float((visible & ~light & ~dark).mean())
        self.two_tone &= between < 0.05 * visible.mean() or not visible.any()
        self.coloured |= float((visible & (np.ptp(values, axis=-1) > self.trace)).mean()) > FEW
        self.zero |= bool((values == 0).any())
        self.most = max(self.most, float(values.max(initial=0, where=values < 1)))
        self.grey = max(self.grey, between)

    @property
    def trace(self) -> float:
        return 0.0 if self.exact else TRACE

    @property
    def meaning(self) -> Meaning:
        if self.transparent:
            painted = self.two_tone and self.black and self.white and not self.coloured
            return Meaning.OPAQUE_AND_BRIGHT if painted else Meaning.OPAQUE
        if self.coloured:
            return Meaning.NOT_BLACK
        return Meaning.LABELLED if self.exact and self.zero and 0 < self.most <= 0.5 else Meaning.BRIGHT


@dataclass(frozen=True)
class Mask:
    places: Bool[np.ndarray, "F H W"]
    """Where each frame of the clip may change."""
    meaning: Meaning
    proportion: float
    """The mask's width over its height, as it is shown."""
    like_source: bool
    """Whether it is a clip whose frames were taken by the numbers that they have in the source."""


def read_mask(
    path: str | Path,
    *,
    frames: int,
    start: int | str = 0,
    stride: int | str = 1,
    width: int,
    height: int,
    fit: Fit = "crop",
) -> Mask:
    """Read a mask, a picture, a clip or a folder of pictures, and tell from the whole of it what may change.

    Where any of it is transparent, what is opaque may change, whatever its colour (cut-outs, selections as alpha); but
    where the opaque part is painted in black and white, only the white. Of pictures with colours (labels, palettes)
    what is not black may change; of numbers that are in the lower half (labels 0, 1, 2, ..., and the highest number
    for what has none) what is not 0; of others what is brighter than half.

    A picture, or a clip of one frame, holds for all frames. A clip of exactly ``frames`` frames has one for each; any
    other is read like the source: ``start``, ``stride``.

    Raises:
        UserError: the file is not a readable picture or clip, or it is too short.
    """
    count = 0
    with opened(path, "mask") as file:
        for frame in itertools.islice(file.frames, frames + 1):
            count += 1
            proportion = frame.proportion
    which = (count, 0, 1) if count in (1, frames) else (frames, start, stride)
    with opened(path, "mask") as file:
        seen = Seen(file.lossless)
        for frame in chosen(file.frames, Choice(*which), path, "the mask "):
            seen.add(frame)
    meaning = seen.meaning
    warn_of_grey(path, seen, "may change")
    with opened(path, "mask") as file:
        places = [
            _places(frame, meaning, seen.trace, width, height, fit)
            for frame in chosen(file.frames, Choice(*which), path, "the mask ")
        ]
    places_of_frames = np.broadcast_to(np.stack(places), (frames, height, width))
    return Mask(places_of_frames, meaning, proportion, like_source=count not in (1, frames))


def _colour_codes(pixels: np.ndarray) -> np.ndarray:
    """One number for each colour of a picture of 8 bits; of more bits, the upper ones."""
    red, green, blue = np.moveaxis(pixels[..., :3].astype(np.uint32) >> 8 * (pixels.dtype.itemsize - 1), -1, 0)
    codes: np.ndarray = red << 16 | green << 8 | blue
    return codes


def _values(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Colours ``H W 1`` or ``H W 3`` and opacity ``H W``, from 0 to 1."""
    values = frame.pixels / np.float32(full_scale(frame.pixels))
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] == 4:
        return values[..., :3], values[..., 3]
    return values, np.ones(values.shape[:2], np.float32)


def _places(frame: Frame, meaning: Meaning, trace: float, width: int, height: int, fit: Fit) -> Bool[np.ndarray, "H W"]:
    values, opacity = _values(frame)
    chosen = {
        Meaning.OPAQUE: opacity >= OPAQUE,
        Meaning.OPAQUE_AND_BRIGHT: (opacity >= OPAQUE) & (values.mean(axis=-1) > 0.5),
        Meaning.NOT_BLACK: values.max(axis=-1) > trace,
        Meaning.LABELLED: values.max(axis=-1) > 0,
        Meaning.BRIGHT: values.mean(axis=-1) > 0.5,
    }[meaning]
    return fitted(chosen.astype(np.uint8) * 255, frame.pixel_aspect, width, height, fit) > 127


def warn_of_grey(path: str | Path, seen: Seen, effect: str) -> None:
    """A warning where a mask may not mean what it is taken for; ``effect`` is what becomes of what it chooses."""
    if seen.meaning in (Meaning.BRIGHT, Meaning.OPAQUE_AND_BRIGHT) and seen.grey > 0.1:
        warnings.warn(
            f"{seen.grey:.0%} of the mask {printable(path)} is grey: {seen.meaning.value} {effect}; make it black and "
            "white if that is not meant",
            stacklevel=3,
        )
