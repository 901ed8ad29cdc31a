"""Tuning on parts of a clip that is too long to be tuned on at once."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.state import TuningState
from vrwkv_jax.tuning.windows import Windows

CONFIG = TuneConfig(tuning=TuningConfig(steps=2))


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def latents(editor) -> np.ndarray:
    return np.asarray(editor.encode(clip())[0])


def windows(latents: np.ndarray, frames: int) -> Windows:
    return Windows(latents, frames, *clip().shape[1:3])


def losses(run) -> list[float]:
    return [entry["loss"] for entry in run.log]


def test_every_window_is_a_run_of_frames_and_all_of_them_come():
    latents = np.arange(7 * 2 * 2 * 4, dtype=np.float64).reshape(7, 2, 2, 4)
    parts = Windows(latents, 3, 16, 16)
    drawn = [parts.of_step(5, step) for step in range(100)]
    assert all(part.shape == (1, 3, 2, 2, 4) and part.dtype == np.float32 for part in drawn)
    firsts = [int(part[0, 0, 0, 0, 0]) // 16 for part in drawn]
    assert set(firsts) == set(range(5))
    for part, first in zip(drawn, firsts, strict=True):
        np.testing.assert_array_equal(part[0], latents[first : first + 3])
    np.testing.assert_array_equal(drawn[7], parts.of_step(5, 7))
    assert firsts != [int(parts.of_step(6, step)[0, 0, 0, 0, 0]) // 16 for step in range(100)]


def test_a_window_of_the_whole_clip_is_the_clip(editor, latents):
    whole = tune(editor, clip(), "a red disc", CONFIG)
    assert losses(tune(editor, windows(latents, len(latents)), "a red disc", CONFIG)) == losses(whole)


def test_goes_on_where_it_was(editor, latents):
    kept: list[TuningState] = []

    def keep(state: TuningState) -> None:
        copies = ({path: np.array(leaf) for path, leaf in state.tuned.items()}, jax.tree.map(np.array, state.optimizer))
        kept.append(TuningState(state.step, *copies))

    long = np.concatenate([latents, latents[::-1], latents])
    parts = windows(long, 2)
    through = tune(editor, parts, "a red disc", CONFIG, keep=keep)
    resumed = tune(editor, parts, "a red disc", CONFIG, start=kept[0])
    assert losses(resumed) == losses(through)[1:]
    other = tune(editor, parts, "a red disc", replace(CONFIG, seed=34))
    assert losses(other) != losses(through)
