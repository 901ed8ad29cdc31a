"""Scenes of the hard world, in which frames depend on each other: what one frame shows, no other may contradict."""

import math

import numpy as np

from vrwkv_jax.world.motion import view
from vrwkv_jax.world.scene import (
    ALL_SHAPES,
    BACKGROUNDS,
    CAMERAS,
    COLOURS,
    DEFORMATIONS,
    LIGHTS,
    MATERIALS,
    MOTIONS,
    TEXTURED_BACKGROUNDS,
    Scene,
    Thing,
    choice,
    is_held_out,
    stands_out,
)

SHARE_VISIBLE = 0.25  # of the moments, in which the middle of the first thing must be in the picture at least


def random_hard_scene(rng: np.random.Generator, *, held_out: bool = False, things: int | None = None) -> Scene:
    """A scene with any of: materials, textured backgrounds, a camera that moves, changing light, deformation, thin
    shapes, things that pass in front of each other or leave the picture. Its style is plain.

    Args:
        held_out: one of the combinations of shape, colour and background that training never sees.
        things: 1 or 2; by default one in three scenes has two.
    """
    while True:
        scene = _random_scene(rng, things or (2 if rng.random() < 1 / 3 else 1))
        can_be_told = all(stands_out(thing.colour, scene.background) for thing in scene.things)
        if is_held_out(scene) == held_out and can_be_told and is_seen(scene):
            return scene


def _random_scene(rng: np.random.Generator, things: int) -> Scene:
    has_texture = rng.random() < 0.7
    behind = choice(rng, TEXTURED_BACKGROUNDS if has_texture else BACKGROUNDS)
    return Scene(
        tuple(_random_thing(rng) for _ in range(things)),
        behind,
        pattern=int(rng.integers(2**31)) if has_texture else 0,
        camera="still" if rng.random() < 0.3 else choice(rng, CAMERAS[1:]),
        light="steady" if rng.random() < 0.6 else choice(rng, LIGHTS[1:]),
    )


def _random_thing(rng: np.random.Generator) -> Thing:
    """One that may go where it wants."""
    has_material = rng.random() < 0.75
    motion = choice(rng, MOTIONS)
    at = rng.uniform(0.22, 0.78, 2)
    return Thing(
        choice(rng, ALL_SHAPES),
        choice(rng, COLOURS),
        (float(at[0]), float(at[1])),
        size=choice(rng, ("", "large ")),
        motion=motion,
        angle=rng.uniform(0, 2 * math.pi) if motion == "spin" else 0.0,
        material=choice(rng, MATERIALS) if has_material else None,
        pattern=int(rng.integers(2**31)) if has_material else 0,
        deformation="rigid" if rng.random() < 0.5 else choice(rng, DEFORMATIONS[1:]),
        way=0.3 if rng.random() < 0.5 else float(rng.uniform(0.5, 0.9)),
    )


def is_seen(scene: Scene) -> bool:
    """Whether every thing has its middle in the picture for some of the time, and the first in the first frame."""
    moments = np.linspace(0, 1, 9)
    for thing in scene.things:
        inside = []
        for along in moments:
            x, y = view(scene.camera, along).to_picture(*thing.pose(along)[:2])
            inside.append(0.08 < x < 0.92 and 0.08 < y < 0.92)
        if not inside[0] or sum(inside) / len(inside) < SHARE_VISIBLE:
            return False
    return True
