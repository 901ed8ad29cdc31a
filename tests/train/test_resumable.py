"""How a tuning that may be stopped heeds a signal, whenever it comes."""

import signal

import pytest

from train import resumable
from train.checkpoints import Checkpoints
from train.state import TuningState
from vrwkv_jax.config import TuneConfig


def test_a_signal_that_comes_while_the_processes_agree_is_heeded(tmp_path, monkeypatch):
    saved = []

    def largest(number):
        signal.raise_signal(signal.SIGINT)
        return number

    def tune(*_, keep, **__):
        keep(TuningState(1, {}, ()))
        pytest.fail("still there")

    monkeypatch.setattr(resumable, "largest", largest)
    monkeypatch.setattr(resumable, "tune", tune)
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, about: saved.append(state.step))
    with pytest.raises(KeyboardInterrupt):
        resumable.tune_resumably(None, None, 10.0, TuneConfig(), tmp_path, {}, False)
    assert saved == [1]
