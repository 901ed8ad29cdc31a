"""What a picture of the rendered world shows, found by comparing it with renders."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from vrwkv_jax.typing import Bool, Float, UInt8
from vrwkv_jax.world.drawing import background, coverage
from vrwkv_jax.world.scene import BACKGROUNDS, COLOURS, SHAPES, SIZES, Thing

FOREGROUND = 0.16  # distance in RGB (0 to 1 per channel) to the background from which on a pixel is a thing's
LEAST_AREA = 12  # pixels of 64 x 64


@dataclass(frozen=True)
class Match:
    """The best explanation of a picture as one thing on a background.

    ``shape`` and ``colour`` are None, and ``at`` is NaN, where nothing stands out of the background; ``shape`` alone,
    where it does so in no colour that there is.
    """

    background: str
    shape: str | None
    colour: str | None
    at: tuple[float, float]
    """Centroid (x, y) of the foreground, in sides of the picture."""
    foreground: Bool[np.ndarray, "S S"]
    error: float
    """Mean squared difference between the foreground and the best render's coverage; inf without foreground."""


def match(picture: UInt8[np.ndarray, "S S 3"], *, expected_background: str | None = None, angle: float = 0.0) -> Match:
    """Compares ``picture`` (plain style) with renders of every background, colour and shape.

    Args:
        expected_background: take this one as given; by default it is found, too.
        angle: of the thing, radians.
    """
    image = picture / 255
    size = image.shape[0]
    name = expected_background or nearest_background(picture)
    behind = background(name, size)
    difference = image - behind
    foreground = standing_out(picture, behind)
    if foreground.sum() < LEAST_AREA * (size / 64) ** 2:
        return Match(name, None, None, (np.nan, np.nan), foreground, np.inf)
    colour = _colour(image, foreground)
    towards = np.array(COLOURS[colour]) / 255 - behind
    share = np.clip((difference * towards).sum(-1) / (towards**2).sum(-1), 0, 1)
    share = share * _grown(foreground)
    if not share.any():  # what stands out is no more of that colour than the background is
        return Match(name, None, colour, centroid(foreground), foreground, np.inf)
    errors = {shape: _misfit(shape, share, angle) for shape in SHAPES}
    shape = min(errors, key=lambda s: errors[s])
    return Match(name, shape, colour, centroid(foreground), foreground, errors[shape])


def standing_out(picture: UInt8[np.ndarray, "S S 3"], behind: Float[np.ndarray, "S S 3"]) -> Bool[np.ndarray, "S S"]:
    """The largest connected part that differs from the background ``behind``, 0 to 1."""
    return _largest_part(np.linalg.norm(picture / 255 - behind, axis=-1) > FOREGROUND)


def nearest_background(picture: UInt8[np.ndarray, "S S 3"]) -> str:
    """The background from which most of the picture differs least."""
    image = picture / 255

    def distance(name: str) -> float:
        return float(np.median(np.linalg.norm(image - background(name, image.shape[0]), axis=-1)))

    return min(BACKGROUNDS, key=distance)


def _colour(image: Float[np.ndarray, "S S 3"], foreground: Bool[np.ndarray, "S S"]) -> str:
    """The named colour nearest to what is seen inside the foreground, away from its blended edge."""
    inside = ~_grown(~foreground)
    return named_colour(image[inside if inside.any() else foreground])


def named_colour(pixels: Float[np.ndarray, "N 3"]) -> str:
    """The named colour nearest to the median of ``pixels``, which are 0 to 1."""
    seen = np.median(pixels, axis=0)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(seen - np.array(COLOURS[name]) / 255)))


def _misfit(shape: str, share: Float[np.ndarray, "S S"], angle: float) -> float:
    """How far the best placed and sized ``shape`` is from covering each pixel to its ``share``."""
    size, area = share.shape[0], share.sum()
    thing = Thing(shape, "red", size="", angle=angle)
    mask = coverage(thing, 0.5, size)
    radius = SIZES[""] * np.sqrt(area / mask.sum())
    (x, y), (mask_x, mask_y) = centroid(share), centroid(mask)
    scale = radius / SIZES[""]
    at = np.array((x - (mask_x - 0.5) * scale, y - (mask_y - 0.5) * scale))
    best = np.inf
    for dx, dy in itertools.product((-1, 0, 1), repeat=2):
        for factor in (0.93, 1.0, 1.07):
            placed = replace(thing, at=tuple(at + np.array((dx, dy)) / size))
            error = np.square(share - coverage(placed, 0.5, size, radius=factor * radius)).mean()
            best = min(best, float(error))
    return best


def centroid(weights: np.ndarray) -> tuple[float, float]:
    """(x, y), in sides of the picture."""
    y, x = ndimage.center_of_mass(weights)
    return float(x + 0.5) / weights.shape[0], float(y + 0.5) / weights.shape[0]


def _grown(mask: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, "S S"]:
    """With all neighbours, diagonal ones included."""
    grown: np.ndarray = ndimage.binary_dilation(mask, np.ones((3, 3)))
    return grown


def _largest_part(mask: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, "S S"]:
    """The connected part with the most pixels: specks elsewhere don't count."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    return parts == 1 + np.argmax(ndimage.sum_labels(mask, parts, range(1, count + 1))) if count else mask
