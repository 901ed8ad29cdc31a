"""Where things and places are in the picture at any moment: deformations, the camera, light; and back again.

Coordinates: (u, v) on a thing, in its radii, as it is at rest; (x, y) in the world and in the picture, in sides of
the picture from the top left. Of a camera that stands still the two are the same.
"""

import math
from typing import NamedTuple, TypeVar

import numpy as np

from vrwkv_jax.typing import Float
from vrwkv_jax.world.scene import Scene, Thing

Coordinates = TypeVar("Coordinates", float, Float[np.ndarray, "*shape"])


class View(NamedTuple):
    """What a camera sees: the world around its ``centre``, ``zoom`` times as large."""

    centre: tuple[float, float] = (0.5, 0.5)
    zoom: float = 1.0

    def to_picture(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        return 0.5 + (x - self.centre[0]) * self.zoom, 0.5 + (y - self.centre[1]) * self.zoom

    def to_world(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        return self.centre[0] + (x - 0.5) / self.zoom, self.centre[1] + (y - 0.5) / self.zoom


def view(camera: str, along: float) -> View:
    """Of one of ``scene.CAMERAS`` at ``along``, from 0 at the first frame to 1 at the last."""
    step = 0.5 * (along - 0.5)
    if camera == "shake":  # three tones without a common period
        x, y = (sum(math.sin(2 * math.pi * (f * along + f * phase)) for f in (2.3, 3.7, 5.9)) for phase in (0.1, 0.37))
        return View((0.5 + 0.022 * x, 0.5 + 0.022 * y))
    return {
        "still": View(),
        "pan left": View((0.5 - step, 0.5)),
        "pan right": View((0.5 + step, 0.5)),
        "pan up": View((0.5, 0.5 - step)),
        "zoom in": View(zoom=1 + 0.4 * along),
        "zoom out": View(zoom=1.4 - 0.4 * along),
    }[camera]


def light(
    name: str, along: float, x: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """The share of light, at most 1, at places of the picture."""
    if name == "shadow":  # of something that passes over the scene
        passing = (x + 0.35 * y + 0.5 - 2.0 * along) / 0.28
        return 1 - 0.45 * np.exp(-(passing**2))
    share = {
        "steady": 1.0,
        "dimming": 1 - 0.4 * along,
        "flickering": 0.86 + 0.07 * (math.sin(2 * math.pi * 3.3 * along) + math.sin(2 * math.pi * 5.7 * along + 1)),
    }[name]
    return np.full(x.shape, share)


def _deformation(thing: Thing, along: float) -> tuple[float, float, float]:
    """How wide and how high a thing is, in its own size, and how far it sways, in radii."""
    if thing.deformation == "squash":
        stretch = 1 + 0.25 * math.sin(2 * math.pi * along)
        return stretch, 1 / stretch, 0.0
    if thing.deformation == "turn":  # to one side and back
        return 1 - 0.55 * math.sin(math.pi * along) ** 2, 1.0, 0.0
    return 1.0, 1.0, 0.22 if thing.deformation == "wobble" else 0.0


def at_rest(thing: Thing, along: float, u: Coordinates, v: Coordinates) -> tuple[Coordinates, Coordinates]:
    """The place (u, v) of a thing as it is at rest, of what is seen at (u, v) of it deformed."""
    wide, high, sway = _deformation(thing, along)
    v = v / high
    return (u - _swayed(sway, along, v) if sway else u) / wide, v


def deformed(thing: Thing, along: float, u: Coordinates, v: Coordinates) -> tuple[Coordinates, Coordinates]:
    """The inverse of ``at_rest``."""
    wide, high, sway = _deformation(thing, along)
    return u * wide + _swayed(sway, along, v) if sway else u * wide, v * high


def _swayed(sway: float, along: float, v: Coordinates) -> Coordinates:
    """How far what is at rest at a height of ``v`` has gone to the side."""
    side: Coordinates = sway * np.sin(2.2 * v + 2 * math.pi * along)
    return side


def on_thing(thing: Thing, along: float, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
    """The place (u, v) of the thing, at rest, that is seen at (x, y) of the world."""
    centre_x, centre_y, radius, angle = thing.pose(along)
    c, s = math.cos(angle), math.sin(angle)
    right, down = (x - centre_x) / radius, (y - centre_y) / radius
    return at_rest(thing, along, c * right + s * down, c * down - s * right)


def in_world(thing: Thing, along: float, u: Coordinates, v: Coordinates) -> tuple[Coordinates, Coordinates]:
    """The inverse of ``on_thing``."""
    centre_x, centre_y, radius, angle = thing.pose(along)
    c, s = math.cos(angle), math.sin(angle)
    u, v = deformed(thing, along, u, v)
    return centre_x + radius * (c * u - s * v), centre_y + radius * (c * v + s * u)


def came_from(
    scene: Scene, owner: int | None, before: float, now: float, x: Coordinates, y: Coordinates
) -> tuple[Coordinates, Coordinates]:
    """Where in the picture at ``before`` that was which is at (x, y) of the picture at ``now``.

    Args:
        owner: the thing that it belongs to; None: the background.
    """
    x, y = view(scene.camera, now).to_world(x, y)
    if owner is not None:
        thing = scene.things[owner]
        x, y = in_world(thing, before, *on_thing(thing, now, x, y))
    return view(scene.camera, before).to_picture(x, y)
