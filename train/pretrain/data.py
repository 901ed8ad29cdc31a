"""Single frames of the rendered world, with their captions."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import caption, random_hard_scene, random_scene, render_frame

PART = 500  # frames, which one process draws in a second or two
Frames = tuple[UInt8[np.ndarray, "N S S 3"], list[str]]


def frames(count: int, size: int, seed: int, *, held_out: bool = False, hard: float = 0.5) -> Frames:
    """``count`` frames at random moments of random scenes, of those held out or of the others.

    A share of ``hard`` is of the hard world. Half of the captions say how things move: a user will, and a still
    picture must not mind. All processors draw; the result does not depend on how many there are.
    """
    pictures, captions = np.empty((count, size, size, 3), np.uint8), list[str]()
    parts = [(min(PART, count - start), seed, start // PART) for start in range(0, count, PART)]
    with TERMINAL.stage("rendering", count, unit="frame") as advance:
        for drawn, words in _in_order(partial(_part, size=size, held_out=held_out, hard=hard), parts):
            pictures[len(captions) : len(captions) + len(words)] = drawn
            for word in words:
                captions.append(word)
                advance()
    return pictures, captions


def _part(which: tuple[int, int, int], *, size: int, held_out: bool, hard: float) -> Frames:
    """So many frames, by a seed and the number of the part."""
    count, *seed = which
    rng = np.random.default_rng(seed)
    pictures, captions = np.empty((count, size, size, 3), np.uint8), []
    for index in range(count):
        scene = (random_hard_scene if rng.random() < hard else random_scene)(rng, held_out=held_out)
        pictures[index] = render_frame(scene, rng.random(), size)[0]
        captions.append(caption(scene, motion=rng.random() < 0.5))
    return pictures, captions


def _in_order(draw: "partial[Frames]", parts: list[tuple[int, int, int]]) -> Iterator[Frames]:
    workers = min(len(parts), os.cpu_count() or 1)
    if workers <= 1:
        yield from map(draw, parts)
        return
    context = multiprocessing.get_context("spawn")  # JAX's threads can't be forked
    with ProcessPoolExecutor(workers, context, initializer=_leave_interruptions_to_the_parent) as pool:
        try:
            yield from pool.map(draw, parts)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interruptions_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
