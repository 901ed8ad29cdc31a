"""Single frames of the rendered world, with their captions."""

import numpy as np

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import caption, random_scene, render_frame


def frames(
    count: int, size: int, seed: int, *, held_out: bool = False
) -> tuple[UInt8[np.ndarray, "N S S 3"], list[str]]:
    """``count`` frames at random moments of random scenes, of those held out or of the others.

    Half of the captions say how things move: a user will, and a still picture must not mind.
    """
    rng = np.random.default_rng(seed)
    pictures, captions = np.empty((count, size, size, 3), np.uint8), []
    with TERMINAL.stage("rendering", count, unit="frame") as advance:
        for index in range(count):
            scene = random_scene(rng, held_out=held_out)
            pictures[index] = render_frame(scene, rng.random(), size)[0]
            captions.append(caption(scene, motion=rng.random() < 0.5))
            advance()
    return pictures, captions
