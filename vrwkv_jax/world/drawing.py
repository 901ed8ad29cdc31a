"""Scenes to pixels: exact, anti-aliased, the same everywhere."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from vrwkv_jax.typing import Bool, Float, UInt8
from vrwkv_jax.world.motion import View, at_rest, light, on_thing, view
from vrwkv_jax.world.scene import COLOURS, TEXTURED_BACKGROUNDS, Scene, Thing
from vrwkv_jax.world.styles import apply_style
from vrwkv_jax.world.textures import material, textured_background

SAMPLES = 4  # of shapes, per pixel and axis
TEXTURE_SAMPLES = 2
STILL = View()
_REACH, _REACH_DEFORMED = 1.35, 1.75  # radii: the corners of a square that is turned

Colour = tuple[int, int, int]  # sRGB


def render(
    scene: Scene, frames: int = 16, size: int = 64
) -> tuple[UInt8[np.ndarray, "F S S 3"], Float[np.ndarray, "F N S S"]]:
    """The scene as a clip of square frames, and how much of each pixel each thing covers, 0 to 1.

    A thing that is partly behind another is covered there: what masks and the rest of the picture add up to is 1.
    """
    along = [frame / (frames - 1) if frames > 1 else 0.5 for frame in range(frames)]
    drawn = [render_frame(scene, a, size) for a in along]
    return np.stack([picture for picture, _ in drawn]), np.stack([masks for _, masks in drawn])


def render_frame(
    scene: Scene, along: float, size: int = 64
) -> tuple[UInt8[np.ndarray, "S S 3"], Float[np.ndarray, "N S S"]]:
    """One frame of ``render``, at ``along`` from 0 (the first) to 1 (the last)."""
    camera = view(scene.camera, along)
    picture = behind(scene, along, size)
    masks: list[np.ndarray] = []
    for thing in scene.things:
        mask = coverage(thing, along, size, camera=camera)
        picture = picture + mask[..., None] * (_colours(thing, along, camera, size) - picture)
        masks = [earlier * (1 - mask) for earlier in masks] + [mask]
    if scene.light != "steady":
        picture = picture * light(scene.light, along, *grid(size))[..., None]
    styled = apply_style(scene.style, picture)
    return np.round(255 * styled).astype(np.uint8), np.stack(masks).astype(np.float32)


def coverage(
    thing: Thing, along: float, size: int, *, radius: float | None = None, camera: View = STILL
) -> Float[np.ndarray, "S S"]:
    """How much of each pixel the thing covers; ``radius`` in sides of the picture, where it is none of its sizes."""
    x, y, own_radius, angle = thing.pose(along)
    radius = radius or own_radius
    if camera != STILL:
        x, y = (float(centre) for centre in camera.to_picture(x, y))
        radius *= camera.zoom
    c, s = math.cos(angle), math.sin(angle)
    mask = np.zeros((size, size))
    reach = _REACH if thing.deformation == "rigid" else _REACH_DEFORMED
    columns, rows = (_pixels(centre, reach * radius, size) for centre in (x, y))
    if columns.start < columns.stop and rows.start < rows.stop:
        u, v = ((_samples(box) / size - centre) / radius for box, centre in ((columns, x), (rows, y)))
        turned = c * u[None] + s * v[:, None], c * v[:, None] - s * u[None]
        inside = _INSIDE[thing.shape](*at_rest(thing, along, *turned))
        mask[rows, columns] = inside.reshape(v.size // SAMPLES, SAMPLES, u.size // SAMPLES, SAMPLES).mean((1, 3))
    return mask


def _colours(thing: Thing, along: float, camera: View, size: int) -> Float[np.ndarray, "#S #S 3"]:
    """What the thing would look like all over the picture, 0 to 1: one colour, or its material's pattern."""
    colour = COLOURS[thing.colour]
    if thing.material is None:
        return np.array(colour)[None, None] / 255
    seen = on_thing(thing, along, *camera.to_world(*grid(size * TEXTURE_SAMPLES)))
    return _pixel_means(material(thing.material, thing.pattern, colour, *seen), size) / 255


def behind(scene: Scene, along: float, size: int) -> Float[np.ndarray, "S S 3"]:
    """The background as the camera sees it at ``along``, 0 to 1, before light and style."""
    name, camera = scene.background, view(scene.camera, along)
    if name not in TEXTURED_BACKGROUNDS and camera == STILL:
        return background(name, size)
    x, y = camera.to_world(*grid(size * TEXTURE_SAMPLES))
    colours = _BACKGROUNDS[name](x, y) if name in _BACKGROUNDS else textured_background(name, scene.pattern, x, y)
    return _pixel_means(colours, size) / 255


def grid(size: int) -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S"]]:
    """(x, y) of the middle of every pixel, in sides of the picture."""
    at = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(at, at)
    return x, y


def _pixel_means(samples: Float[np.ndarray, "n n 3"], size: int) -> Float[np.ndarray, "{size} {size} 3"]:
    means: np.ndarray = samples.reshape(size, TEXTURE_SAMPLES, size, TEXTURE_SAMPLES, 3).mean((1, 3))
    return means


def _pixels(centre: float, reach: float, size: int) -> slice:
    """The pixels of a picture within ``reach`` of ``centre``, along one axis."""
    low, high = (int(np.clip(math.floor(edge * size), 0, size)) for edge in (centre - reach, centre + reach + 1 / size))
    return slice(low, high)


def _samples(pixels: slice) -> Float[np.ndarray, "n"]:
    samples: np.ndarray = pixels.start + (np.arange((pixels.stop - pixels.start) * SAMPLES) + 0.5) / SAMPLES
    return samples


def _star(u: Float[np.ndarray, "H W"], v: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    outer, inner, tip = 1.15, 0.52, math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + tip) % (2 * tip) - tip)  # from the nearest tip
    r = np.hypot(u, v)
    x, y = r * np.cos(angle), r * np.sin(angle)
    x1, y1 = inner * math.cos(tip), inner * math.sin(tip)
    inside: np.ndarray = (x - outer) * y1 + y * (outer - x1) < 0
    return inside


def _heart(u: Float[np.ndarray, "H W"], v: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    x, y = 1.15 * u, -1.15 * v + 0.1
    return (x**2 + y**2 - 1) ** 3 - x**2 * y**3 < 0


def _snowflake(u: Float[np.ndarray, "H W"], v: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    step = math.pi / 3
    angle = (np.arctan2(v, u) + step / 2) % step - step / 2  # from the nearest of six arms
    r = np.hypot(u, v)
    inside: np.ndarray = (np.abs(r * np.sin(angle)) < 0.1) & (r < 1.1)
    return inside


_INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # (u, v) in radii from the centre, v downwards
    "circle": lambda u, v: u**2 + v**2 < 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.88,
    "triangle": lambda u, v: (v < 0.7) & (np.abs(u) < 0.6 * (v + 1.05)),
    "star": _star,
    "heart": _heart,
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.34) & (np.maximum(np.abs(u), np.abs(v)) < 1),
    "ring": lambda u, v: (u**2 + v**2 < 1) & (u**2 + v**2 > 0.52**2),
    "moon": lambda u, v: (u**2 + v**2 < 1) & ((u - 0.55) ** 2 + (v + 0.15) ** 2 > 0.75**2),
    "hoop": lambda u, v: (u**2 + v**2 < 1) & (u**2 + v**2 > 0.8**2),
    "stick": lambda u, v: (np.abs(u) < 0.13) & (np.abs(v) < 1.1),
    "snowflake": _snowflake,
}


def inside(shape: str, u: Float[np.ndarray, "H W"], v: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Whether (u, v), in radii from the centre, v downwards, are within the shape."""
    within: np.ndarray = _INSIDE[shape](u, v)
    return within


@cache
def background(name: str, size: int) -> Float[np.ndarray, "S S 3"]:
    """A background of the plain world alone, 0 to 1."""
    return _BACKGROUNDS[name](*grid(size)) / 255


def _blend(share: Float[np.ndarray, "S S"], one: Colour, other: Colour) -> Float[np.ndarray, "S S 3"]:
    share = np.clip(share, 0, 1)  # beyond the picture, where a camera looks
    blended: np.ndarray = np.asarray(other) + share[..., None] * (np.asarray(one, float) - np.asarray(other))
    return blended


def _soft(wave: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S"]:
    """A wave with steep but smooth flanks, 0 to 1."""
    return np.clip(0.5 + 2.0 * wave, 0, 1)


def _grass(x: Float[np.ndarray, "S S"], y: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S 3"]:
    blades = np.sin(2 * np.pi * (7 * x + 0.5 * np.sin(2 * np.pi * 2 * y))) * np.sin(2 * np.pi * (4 * y + 1.3 * x))
    return _blend(0.5 + 0.5 * blades, (90, 145, 65), (60, 105, 45))


def _sand(x: Float[np.ndarray, "S S"], y: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S 3"]:
    ripples = np.sin(2 * np.pi * (6 * y + 0.35 * np.sin(2 * np.pi * 1.5 * x)))
    return _blend(0.5 + 0.5 * ripples, (225, 195, 145), (205, 175, 125))


def _night(x: Float[np.ndarray, "S S"], y: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S 3"]:
    picture = _blend(y, (35, 40, 80), (8, 10, 35))
    for star_x, star_y in _STARS:
        near = np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / (2 * 0.016**2))
        picture = picture + near[..., None] * (np.array((235, 235, 215)) - picture)
    return picture


_STARS = ((0.1, 0.12), (0.31, 0.3), (0.52, 0.09), (0.74, 0.22), (0.9, 0.45), (0.17, 0.55), (0.6, 0.62), (0.4, 0.86))
_BACKGROUNDS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "white": lambda x, y: np.full((*x.shape, 3), 240.0),
    "grey": lambda x, y: np.full((*x.shape, 3), 128.0),
    "sky": lambda x, y: _blend(y, (195, 222, 250), (85, 155, 230)),
    "sunset": lambda x, y: _blend(y, (250, 150, 60), (120, 50, 110)),
    "stripes": lambda x, y: _blend(_soft(np.sin(2 * np.pi * 4 * x)), (240, 225, 165), (210, 185, 110)),
    "checks": lambda x, y: _blend(
        _soft(2 * np.sin(2 * np.pi * 2 * x) * np.sin(2 * np.pi * 2 * y)), (160, 140, 190), (110, 90, 140)
    ),
    "grass": _grass,
    "sand": _sand,
    "night": _night,
}
