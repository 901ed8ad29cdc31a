"""Films: minutes of the rendered world. Shots with cuts between them, and the true edit of every frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from vrwkv_jax.typing import Float, UInt8
from vrwkv_jax.world.drawing import render_frame
from vrwkv_jax.world.hard import is_seen, random_hard_scene
from vrwkv_jax.world.scene import (
    ALL_BACKGROUNDS,
    CAMERAS,
    COLOURS,
    MOTIONS,
    SHAPES,
    TEXTURED_BACKGROUNDS,
    Scene,
    Thing,
    caption,
    choice,
    edit,
    is_held_out,
    stands_out,
)

SHOT_FRAMES = (60, 240)
"""The least and the most frames of a shot, but for the last, which may be shorter."""


@dataclass(frozen=True)
class Shot:
    """A scene that takes so many frames."""

    scene: Scene
    frames: int

    def along(self, frame: int) -> float:
        """From 0 at the first frame of the shot to 1 at the last, as for ``render``."""
        return frame / (self.frames - 1) if self.frames > 1 else 0.5


@dataclass(frozen=True)
class Film:
    """Shots one after the other, of the same thing before the same kind of background: one caption says what they show.

    From shot to shot the thing is elsewhere and moves otherwise, it may leave the picture and come back, the camera is
    another, and so is the pattern of a background with texture.
    """

    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        return sum(shot.frames for shot in self.shots)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first frame of every shot: 0, and the cuts."""
        return (0, *accumulate(shot.frames for shot in self.shots[:-1]))

    @property
    def caption(self) -> str:
        return caption(self.shots[0].scene, motion=False)

    def pictures(
        self, size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[UInt8[np.ndarray, "S S 3"], Float[np.ndarray, "N S S"]]]:
        """The frames from ``start`` up to ``stop`` one by one, each with its masks, as of ``render``."""
        stop = self.frames if stop is None else stop
        for first, shot in zip(self.starts, self.shots, strict=True):
            for frame in range(max(start - first, 0), min(stop - first, shot.frames)):
                yield render_frame(shot.scene, shot.along(frame), size)


def edit_film(film: Film, **changes: Any) -> Film:
    """Every shot with the changes of ``world.edit``: the true edit."""
    return Film(tuple(replace(shot, scene=edit(shot.scene, **changes)) for shot in film.shots))


def random_film(rng: np.random.Generator, frames: int, *, shot_frames: tuple[int, int] = SHOT_FRAMES) -> Film:
    """A film of so many frames, of a combination of shape, colour and background that training never saw."""
    while True:
        thing, behind = Thing(choice(rng, SHAPES), choice(rng, COLOURS)), choice(rng, ALL_BACKGROUNDS)
        if is_held_out(Scene((thing,), behind)) and stands_out(thing.colour, behind):
            break
    shots: list[Shot] = []
    for length in _lengths(rng, frames, shot_frames):
        before = shots[-1].scene.camera if shots else None
        shots.append(Shot(_random_shot(rng, thing, behind, before), length))
    return Film(tuple(shots))


def random_montage(rng: np.random.Generator, frames: int, *, shot_frames: tuple[int, int] = SHOT_FRAMES) -> Film:
    """A film of so many frames whose shots have nothing to do with each other. Its caption is that of the first."""
    lengths = _lengths(rng, frames, shot_frames)
    return Film(tuple(Shot(random_hard_scene(rng, held_out=True, things=1), length) for length in lengths))


def _lengths(rng: np.random.Generator, frames: int, shot_frames: tuple[int, int]) -> list[int]:
    found: list[int] = []
    while left := frames - sum(found):
        found.append(min(left, int(rng.integers(shot_frames[0], shot_frames[1] + 1))))
    return found


def _random_shot(rng: np.random.Generator, thing: Thing, behind: str, camera_before: str | None) -> Scene:
    """Of that thing on that background, with another camera than before."""
    while True:
        at = rng.uniform(0.2, 0.8, 2)
        moving = replace(
            thing,
            at=(float(at[0]), float(at[1])),
            motion=choice(rng, [motion for motion in MOTIONS if motion != "still"]),
            way=float(rng.uniform(0.3, 0.9)),
        )
        pattern = int(rng.integers(2**31)) if behind in TEXTURED_BACKGROUNDS else 0
        camera = choice(rng, [camera for camera in CAMERAS if camera != camera_before])
        scene = Scene((moving,), behind, pattern=pattern, camera=camera)
        if is_seen(scene):
            return scene
