"""Materials of things and backgrounds with texture: patterns of which there are many, each the same every time.

Details are about five pixels wide where a picture has 64, for an autoencoder with a quarter of the resolution to keep.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from vrwkv_jax.typing import Float, Int
from vrwkv_jax.world.styles import LUMINANCE

_KNOTS = 64  # after which noise repeats
Coordinates = Float[np.ndarray, "*shape"]
Shares = Float[np.ndarray, "*shape"]
Colours = Float[np.ndarray, "*shape 3"]
Colour = tuple[int, int, int] | Float[np.ndarray, "..."]


def material(name: str, pattern: int, colour: tuple[int, int, int], u: Coordinates, v: Coordinates) -> Colours:
    """The colours (0 to 255) of a thing of a material at the places (u, v) of it, in radii from its centre.

    ``colour`` prevails, so that a thing is still of it; the rest is darker or, of dark colours, lighter.
    """
    base = np.asarray(colour, float)
    other = 0.42 * base if base @ LUMINANCE > 90 else 0.45 * base + 0.55 * 255
    return _between(_MATERIALS[name](u, v, pattern), other, base)


def textured_background(name: str, pattern: int, x: Coordinates, y: Coordinates) -> Colours:
    """The colours (0 to 255) of a background at the places (x, y) of the world, in sides of the picture."""
    return _BACKGROUNDS[name](x, y, pattern)


def _between(share: Shares, one: Colour, other: Colour) -> Colours:
    """A ``share`` of the colour ``one``, for the rest the ``other``."""
    mixed: np.ndarray = np.asarray(other, float) + share[..., None] * (np.asarray(one, float) - np.asarray(other))
    return mixed


@lru_cache(maxsize=512)
def _table(seed: int) -> Float[np.ndarray, "K K"]:
    return np.random.default_rng(seed).random((_KNOTS, _KNOTS))


def noise(x: Coordinates, y: Coordinates, seed: int) -> Shares:
    """Value noise, 0 to 1: a random value at every knot of the grid of whole numbers, smooth between them."""
    table = _table(seed)
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (t * t * (3 - 2 * t) for t in (x - i, y - j))
    i0, i1, j0, j1 = i % _KNOTS, (i + 1) % _KNOTS, j % _KNOTS, (j + 1) % _KNOTS
    upper = table[j0, i0] + across * (table[j0, i1] - table[j0, i0])
    lower = table[j1, i0] + across * (table[j1, i1] - table[j1, i0])
    between: np.ndarray = upper + down * (lower - upper)
    return between


def _nearest(x: Coordinates, y: Coordinates, seed: int) -> tuple[Shares, Int[np.ndarray, "*shape"]]:
    """Cells around points that are scattered, one for every unit of area: the distance to the nearest, its number."""
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    best, number = np.full(x.shape, np.inf), np.zeros(x.shape, int)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            column, row = (i + di) % _KNOTS, (j + dj) % _KNOTS
            px = i + di + 0.15 + 0.7 * _table(seed)[row, column]
            py = j + dj + 0.15 + 0.7 * _table(seed + 1)[row, column]
            distance = np.hypot(x - px, y - py)
            number = np.where(distance < best, row * _KNOTS + column, number)
            best = np.minimum(best, distance)
    return best, number


def _edge(inside: Shares, width: float) -> Shares:
    """0 to 1 across ``inside`` = 0, over a ``width``: a soft edge."""
    return np.clip(0.5 + inside / width, 0, 1)


def _turned(u: Coordinates, v: Coordinates, pattern: int) -> tuple[Coordinates, Coordinates]:
    """The coordinates in a direction of the pattern, and shifted, so that patterns don't look alike."""
    direction, right, down = np.random.default_rng(pattern).random(3)
    c, s = math.cos(math.pi * direction), math.sin(math.pi * direction)
    return c * u + s * v + 20 * right, c * v - s * u + 20 * down


def _wooden(u: Coordinates, v: Coordinates, pattern: int) -> Shares:
    """Rings around a point beside the middle."""
    a, b = _turned(u, v, pattern)
    (a0,), (b0,) = _turned(np.zeros(1), np.zeros(1), pattern)
    rings = np.hypot(a - a0 - 0.9, 0.7 * (b - b0)) + 0.22 * noise(1.6 * a, 1.6 * b, pattern + 2)
    return _edge(np.sin(2 * math.pi * 2.0 * rings) - 0.2, 1.4)


def _furry(u: Coordinates, v: Coordinates, pattern: int) -> Shares:
    a, b = _turned(u, v, pattern)
    hairs = noise(5.0 * a + 0.6 * np.sin(1.5 * b), 1.9 * b, pattern + 2)
    return np.clip(2.4 * hairs - 1.05, 0, 1)


def _speckled(u: Coordinates, v: Coordinates, pattern: int) -> Shares:
    a, b = _turned(u, v, pattern)
    distance, _ = _nearest(1.7 * a, 1.7 * b, pattern)
    return _edge(0.36 - distance, 0.2)


def _striped(u: Coordinates, v: Coordinates, pattern: int) -> Shares:
    a, _ = _turned(u, v, pattern)
    width = 0.55 + 0.25 * np.random.default_rng(pattern + 1).random()
    return _edge(np.cos(2 * math.pi * a / width) - 0.35, 1.0)


def _marbled(u: Coordinates, v: Coordinates, pattern: int) -> Shares:
    a, b = _turned(u, v, pattern)
    veins = np.abs(noise(1.6 * a, 1.6 * b, pattern + 2) + 0.35 * noise(3 * a, 3 * b, pattern + 3) - 0.67)
    return _edge(0.075 - veins, 0.1)


def _planks(x: Coordinates, y: Coordinates, pattern: int) -> Colours:
    row = np.floor(y / 0.17)
    shade = noise(7 * row + 0.5, 0 * row + 0.5, pattern)
    grain = 0.5 + 0.5 * np.sin(2 * math.pi * (y / 0.085 + 1.6 * noise(3 * x + 9 * row, 9 * y, pattern + 1)))
    wood = _between(np.clip(0.6 * shade + 0.4 * grain, 0, 1), (205, 160, 112), (155, 110, 70))
    gap = _edge(0.006 - np.abs(y / 0.17 - np.round(y / 0.17)) * 0.17, 0.014)
    return _between(gap, (70, 45, 25), wood)


def _gravel(x: Coordinates, y: Coordinates, pattern: int) -> Colours:
    distance, number = _nearest(8 * x, 8 * y, pattern)
    grey = 95 + 90 * _table(pattern + 2).ravel()[number]
    stone = _between(grey / 255, (255, 247, 237), (0, 0, 0))
    between = _edge(distance - 0.52, 0.25)
    return _between(between, (62, 58, 54), stone)


def _bricks(x: Coordinates, y: Coordinates, pattern: int) -> Colours:
    down = y / 0.125
    row = np.floor(down)
    along = x / 0.25 + 0.5 * (row % 2)
    column = np.floor(along)
    shade = _table(pattern)[row.astype(int) % _KNOTS, column.astype(int) % _KNOTS]
    brick = _between(shade, (180, 92, 70), (130, 62, 48))
    edge = np.minimum(
        np.minimum(down - row, row + 1 - down) * 0.125, np.minimum(along - column, column + 1 - along) * 0.25
    )
    mortar = _edge(0.012 - edge, 0.014)
    return _between(mortar, (195, 185, 172), brick)


def _clouds(x: Coordinates, y: Coordinates, pattern: int) -> Colours:
    heap = 0.6 * noise(2.5 * x, 3.5 * y, pattern) + 0.4 * noise(6 * x, 8 * y, pattern + 1)
    return _between(np.clip(3 * heap - 1.1, 0, 1), (246, 247, 250), (95, 160, 228))


def _leaves(x: Coordinates, y: Coordinates, pattern: int) -> Colours:
    distance, number = _nearest(6 * x, 6 * y, pattern)
    kinds = np.array(((190, 95, 30), (215, 150, 45), (130, 55, 25), (110, 95, 35), (90, 60, 35)), float)
    leaf = kinds[(5 * _table(pattern + 2).ravel()[number]).astype(int)]
    return _between(0.45 * np.clip(1.5 * distance - 0.2, 0, 1), (0, 0, 0), leaf)


_MATERIALS: dict[str, Callable[[Coordinates, Coordinates, int], Shares]] = {
    "wooden": _wooden,
    "furry": _furry,
    "speckled": _speckled,
    "striped": _striped,
    "marbled": _marbled,
}
"""How much of the other colour there is at (u, v)."""
_BACKGROUNDS: dict[str, Callable[[Coordinates, Coordinates, int], Colours]] = {
    "planks": _planks,
    "gravel": _gravel,
    "bricks": _bricks,
    "clouds": _clouds,
    "leaves": _leaves,
}
