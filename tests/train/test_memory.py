"""Before the first step: how much memory tuning needs, and what to do where there is less."""

import jax
import pytest

from tests.small import clip
from train import memory
from train.loop import tune
from vrwkv_jax import Editor
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.errors import UserError
from vrwkv_jax.memory import Estimate

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TuneConfig(tuning=TuningConfig(steps=2, weight_decay=0.02))  # no other test compiles for this one


@pytest.fixture(scope="module")
def editor(checkpoint) -> Editor:
    return Editor.from_pretrained(checkpoint)


def test_is_said_and_compiles_nothing_twice(editor, caplog):
    said = []
    with jax.log_compiles():
        tune(editor, clip(), "a red disc", CONFIG, say=said.append)
    compilations = [m for m in caplog.messages if "Finished XLA compilation of jit(tuning_step)" in m]
    assert len(compilations) == 1
    assert len(said) == 1 and said[0].startswith("tuning needs about 0.")
    assert said[0].endswith(" GB that JAX may use of this computer")


def test_no_step_needs_nothing(editor):
    tune(editor, clip(), "a red disc", TuneConfig(tuning=TuningConfig(steps=0)), say=pytest.fail)


def check(config: TuningConfig, found: Estimate, monkeypatch) -> None:
    monkeypatch.setattr(memory, "estimate", lambda *_: found)
    memory.check_memory((16, 512, 768, 3), config, None)


def test_too_little_on_a_gpu(monkeypatch):
    found = Estimate(30_000_000_000, 18_000_000_000, "NVIDIA GeForce RTX 4090")
    with pytest.raises(UserError) as error:
        check(TuningConfig(), found, monkeypatch)
    assert str(error.value) == (
        "tuning needs about 30.0 GB of the 18.0 GB that JAX may use of NVIDIA GeForce RTX 4090: "
        "lower --frames (now 16), lower --width and --height (now 768x512), add --remat, compute in --dtype bfloat16 "
        "or let JAX use more of it with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95"
    )


def test_advice_is_what_is_not_done_yet(monkeypatch):
    found = Estimate(30_000_000_000, 18_000_000_000, "this computer", is_limit=False)
    with pytest.warns(UserWarning) as warnings:
        check(TuningConfig(remat=True, dtype="bfloat16"), found, monkeypatch)
    assert str(warnings[0].message).endswith(": lower --frames (now 16) or lower --width and --height (now 768x512)")
