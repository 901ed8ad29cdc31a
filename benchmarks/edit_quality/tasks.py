"""What is edited: clips of the plain world and of the hard one, and what each edit is to change."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vrwkv_jax.evaluation import edits, hard
from vrwkv_jax.evaluation.agreement import agreement
from vrwkv_jax.world import Scene, edit, random_hard_scene, random_scene
from vrwkv_jax.world.scene import (
    ALL_BACKGROUNDS,
    ALL_SHAPES,
    BACKGROUNDS,
    COLOURS,
    MATERIALS,
    SHAPES,
    STYLES,
    stands_out,
)
from vrwkv_jax.world.styles import LUMINANCE

World = Literal["plain", "hard"]
FRAMES: dict[World, int] = {"plain": 8, "hard": 16}
BRIGHTNESS = LUMINANCE / 255
OPPOSITE = 0.4  # a change of brightness, 0 to 1, from which on two colours count as opposite


@dataclass(frozen=True)
class Task:
    """One edit of one clip."""

    clip: int
    kind: edits.Kind | hard.HardKind
    source: Scene
    target: Scene

    @property
    def group(self) -> str:
        """The kind; of the plain world, colours of like and of opposite brightness apart."""
        if self.kind != "colour" or self.source.things[0].material is not None or self.source.camera != "still":
            return self.kind
        before, after = (np.array(COLOURS[s.things[0].colour]) @ BRIGHTNESS for s in (self.source, self.target))
        return "colour, opposite" if abs(before - after) >= OPPOSITE else "colour, like"


def tasks(clips: int, seed: int) -> Iterator[list[Task]]:
    """For each clip of the plain world its four edits."""
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        scene = random_scene(rng, held_out=True, things=1)
        while scene.things[0].motion == "still":
            scene = random_scene(rng, held_out=True, things=1)
        source, thing = Scene(scene.things, scene.background), scene.things[0]
        colours = [c for c in COLOURS if c != thing.colour and stands_out(c, source.background)]
        backgrounds = [b for b in BACKGROUNDS if b != source.background and stands_out(thing.colour, b)]
        changes: dict[edits.Kind, dict[str, str]] = {
            "colour": {"colour": str(rng.choice(colours))},
            "shape": {"shape": str(rng.choice([s for s in SHAPES if s != thing.shape]))},
            "background": {"background": str(rng.choice(backgrounds))},
            "style": {"style": str(rng.choice([s for s in STYLES if s != "plain"]))},
        }
        yield [Task(clip, kind, source, edit(source, **change)) for kind, change in changes.items()]


def hard_tasks(clips: int, seed: int) -> Iterator[list[Task]]:
    """For each clip of the hard world its four edits, of its first thing or of the background."""
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        source = random_hard_scene(rng, held_out=True)
        thing = source.things[0]
        colours = [c for c in COLOURS if c != thing.colour and stands_out(c, source.background)]
        backgrounds = [
            b for b in ALL_BACKGROUNDS if b != source.background and all(stands_out(t.colour, b) for t in source.things)
        ]
        changes: dict[hard.HardKind, dict[str, str]] = {
            "colour": {"colour": str(rng.choice(colours))},
            "shape": {"shape": str(rng.choice([s for s in ALL_SHAPES if s != thing.shape]))},
            "background": {"background": str(rng.choice(backgrounds))},
            "material": {"material": str(rng.choice([m for m in MATERIALS if m != thing.material]))},
        }
        yield [Task(clip, kind, source, edit(source, **change)) for kind, change in changes.items()]


TASKS = {"plain": tasks, "hard": hard_tasks}


def scores(world: World, task: Task, edited: np.ndarray) -> dict[str, Any]:
    """The figures of one edited clip, by their names."""
    if world == "hard":
        own: Any = hard.score(edited, task.source, task.target, task.kind)
    else:
        own = edits.score(edited, task.source, task.target, task.kind)
    return asdict(own) | asdict(agreement(edited, task.source, task.target, task.kind))
