"""How a tuning that may be stopped heeds a signal, whenever it comes."""

import gc
import signal
import weakref
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.runs import tuning
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.log import RunLog
from vrwkv_jax.system.interruption import Postponed
from vrwkv_jax.tuning.state import TuningState

CLIP = np.zeros((2, 8, 8, 3), np.uint8)


def tune(directory, resume):
    editor = MagicMock(spec=Editor, mesh=None)
    tuning.tune_with_checkpoints(editor, CLIP, Timing(10.0), TuneConfig(), RunDirectory(directory), {}, resume)


def test_a_signal_that_comes_while_the_processes_agree_is_heeded(tmp_path, monkeypatch):
    saved = []

    def largest(number):
        signal.raise_signal(signal.SIGINT)
        return number

    def stepping(*_, keep, **__):
        keep(TuningState(1, {}, ()))
        pytest.fail("still there")

    monkeypatch.setattr(tuning, "largest", largest)
    monkeypatch.setattr(tuning, "tune", stepping)
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, about: saved.append(state.step))
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, resume=False)
    assert saved == [1]


def test_a_signal_to_another_process_ends_a_sample(tmp_path, monkeypatch):
    editor, steps = MagicMock(spec=Editor), []
    editor.with_unet_params.return_value = editor

    def invert(*_, callback, **__):
        for step in range(3):
            steps.append(step)
            callback(step)

    editor.invert = invert
    monkeypatch.setattr(tuning, "largest", lambda number: signal.SIGINT if len(steps) == 2 else number)
    samples = tuning.Samples(editor, CLIP, Timing(10.0), TuneConfig(prompt="a red disc"), RunDirectory(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        samples.make(TuningState(1, {}, ()), MagicMock(spec=RunLog), Postponed())
    assert steps == [0, 1]


def test_what_was_read_is_not_held_once_it_is_placed(tmp_path, monkeypatch):
    read = []

    def newest(self, like):
        kernel = np.ones(3, np.float32)
        read.append(weakref.ref(kernel))
        return TuningState(1, {"kernel": kernel}, ())

    def stepping(*_, start, **__):
        jax.block_until_ready(start.tuned)
        gc.collect()
        assert isinstance(start.tuned["kernel"], jax.Array) and read[0]() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "newest", newest)
    monkeypatch.setattr(tuning, "initial_state", lambda *_: TuningState(0, {}, ()))
    monkeypatch.setattr(tuning, "tune", stepping)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, resume=True)
