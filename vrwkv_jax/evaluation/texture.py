"""Which material a thing, or which texture a background, looks like, whatever its pattern.

What is seen is described by a few statistics, and so is every candidate, with patterns of its own; what is seen looks
like the candidate whose statistics are nearest, in units of their spread between patterns (linear discriminants).
"""

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
from scipy import ndimage

from vrwkv_jax.typing import Bool, Float
from vrwkv_jax.world import Scene, edit, render_frame
from vrwkv_jax.world.drawing import inside
from vrwkv_jax.world.motion import in_world, view
from vrwkv_jax.world.scene import ALL_BACKGROUNDS, COLOURS, MATERIALS, TEXTURED_BACKGROUNDS, stands_out
from vrwkv_jax.world.styles import LUMINANCE
from vrwkv_jax.world.textures import material

PATTERNS = 60  # of each material
BACKGROUND_PATTERNS = 4
LEAST_SEEN = 60  # places of ``SIDE`` by ``SIDE``
SIDE = 32  # of the picture of a thing at rest
SOFTNESS = 0.7  # pixels of that picture: about what is lost where a thing has 13 pixels of radius
Picture = Float[np.ndarray, "S S 3"]
Region = Bool[np.ndarray, "S S"]


def looks_like(picture: Picture, scene: Scene, along: float, mask: Float[np.ndarray, "S S"]) -> str | None:
    """The material, or "flat", of the first thing of ``scene``, seen where the scene has it; ``mask`` is its own.

    None where too little of it is seen.
    """
    thing, size = scene.things[0], picture.shape[0]
    u, v = _places_at_rest()
    x, y = view(scene.camera, along).to_picture(*in_world(thing, along, u, v))
    places = size * y - 0.5, size * x - 0.5
    at_rest = np.stack([ndimage.map_coordinates(picture[..., c], places, order=1) for c in range(3)], -1)
    seen = inside(thing.shape, u, v) & (ndimage.map_coordinates(mask, places, order=1, cval=0.0) > 0.97)
    if seen.sum() < LEAST_SEEN:
        return None
    return ("flat", *MATERIALS)[_nearest(_statistics(at_rest, seen), _of_materials(thing.shape, thing.colour))]


@cache
def _of_materials(shape: str, colour: str) -> list[list[np.ndarray]]:
    """Statistics of things of no material and of each, with many patterns."""
    u, v = _places_at_rest()
    region = inside(shape, u, v)
    return [
        [_statistics(_at_rest(name, p, colour, u, v), region) for p in range(PATTERNS)] for name in (None, *MATERIALS)
    ]


def _places_at_rest() -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S"]]:
    """(u, v) on a thing, in its radii, a little beyond its border."""
    at = 1.1 * (2 * (np.arange(SIDE) + 0.5) / SIDE - 1)
    u, v = np.meshgrid(at, at)
    return u, v


def _at_rest(name: str | None, pattern: int, colour: str, u: np.ndarray, v: np.ndarray) -> Picture:
    drawn = np.broadcast_to(np.array(COLOURS[colour], float), (*u.shape, 3))
    if name is not None:
        drawn = material(name, 10_007 * (pattern + 1), COLOURS[colour], u, v)
    grain = np.random.default_rng(pattern).normal(0, 2, drawn.shape)
    softened: np.ndarray = ndimage.gaussian_filter(drawn, (SOFTNESS, SOFTNESS, 0)) + grain
    return softened


def looks_like_background(picture: Picture, scene: Scene, along: float) -> str:
    """The background around the things of ``scene``."""
    colour = scene.things[0].colour
    names = [name for name in ALL_BACKGROUNDS if stands_out(colour, name) or name == scene.background]
    samples, region = _of_backgrounds(replace(scene, light="steady", pattern=0), tuple(names), along, picture.shape[0])
    return names[_nearest(_with_colour(picture, region), samples)]


@lru_cache(maxsize=64)
def _of_backgrounds(
    scene: Scene, names: tuple[str, ...], along: float, size: int
) -> tuple[list[list[np.ndarray]], Region]:
    region = ndimage.binary_erosion(render_frame(scene, along, size)[1].sum(0) < 0.01, np.ones((3, 3)))
    samples = []
    for name in names:
        patterns = range(BACKGROUND_PATTERNS if name in TEXTURED_BACKGROUNDS else 1)
        scenes = (replace(edit(scene, background=name), pattern=10_007 * (p + 1)) for p in patterns)
        samples.append([_with_colour(render_frame(s, along, size)[0].astype(float), region) for s in scenes])
    return samples, region


def _with_colour(picture: Picture, region: Region) -> Float[np.ndarray, "K"]:
    return np.concatenate([picture[region].mean(0) / 20, _statistics(picture, region)])


def _nearest(own: Float[np.ndarray, "K"], samples: list[list[np.ndarray]]) -> int:
    """Which of the candidates, by Mahalanobis' distance to the mean of its ``samples``."""
    means = np.stack([np.mean(of_one, axis=0) for of_one in samples])
    within = np.concatenate([np.stack(of_one) - mean for of_one, mean in zip(samples, means, strict=True)])
    spread = within.T @ within / len(within) + np.diag(0.01 * means.var(0) + 1e-4)
    off = own - means
    return int(np.argmin(np.einsum("nk,kl,nl->n", off, np.linalg.inv(spread), off)))


def _statistics(picture: Picture, region: Region) -> Float[np.ndarray, "K"]:
    """Of the luminance: spread, skew and tails; how fine it is, at three scales; how much it runs in one direction."""
    grey = picture @ LUMINANCE
    weight = region.astype(float)
    values = grey[region]
    deviation = values.std() + 1.0
    offset = np.where(region, (grey - values.mean()) / deviation, 0.0)
    statistics = [np.log(deviation), (offset[region] ** 3).mean(), np.abs(offset[region]).mean()]
    for scale in (1.0, 2.0, 4.0):  # what is left when blurred, and in which direction it changes
        norm = np.maximum(ndimage.gaussian_filter(weight, scale), 1e-3)
        blurred = ndimage.gaussian_filter(offset, scale) / norm
        statistics.append(blurred[region].std())
        if scale < 4:
            down, right = np.gradient(blurred)
            inner = ndimage.binary_erosion(region)
            inner = inner if inner.any() else region
            xx, yy, xy = (right[inner] ** 2).mean(), (down[inner] ** 2).mean(), (right[inner] * down[inner]).mean()
            statistics += [np.log(xx + yy + 1e-3), np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-3)]
            bend = ndimage.laplace(blurred)[inner]
            statistics += [np.log(bend.std() + 1e-3), (bend**3).mean() / (bend.std() ** 3 + 1e-3)]
    return np.array(statistics)
