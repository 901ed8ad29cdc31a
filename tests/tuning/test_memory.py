"""Before the first step: how much memory tuning needs, and what to do where there is less."""

import warnings
from dataclasses import replace

import jax
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.device_memory import Estimate, estimate, estimate_uncompiled
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning import memory
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.memory import with_remat_chosen
from vrwkv_jax.tuning.step import tuning_step

CONFIG = TuneConfig(tuning=TuningConfig(steps=2, weight_decay=0.02))  # no other test compiles for this one


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint)


def test_is_said_and_compiles_nothing_twice(editor, caplog):
    said = []
    with jax.log_compiles():
        tune(editor, clip(), "a red disc", CONFIG, say=said.append)
    assert compilations(caplog) == 1
    assert len(said) == 1 and said[0].startswith("tuning needs about 0.")
    assert said[0].endswith(" GB that JAX may use of this computer")


def compilations(caplog) -> int:
    return sum("Finished XLA compilation of jit(tuning_step)" in message for message in caplog.messages)


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("mid",)))


# Of each, the weight decay makes a program that no other test has compiled.
@pytest.mark.parametrize(
    ("capacity", "weight_decay", "remat", "compiled"),
    [
        (lambda rough, needed: None, 0.03, False, 0),  # a device that does not say
        (lambda rough, needed: needed, 0.04, False, 0),
        (lambda rough, needed: needed - 1, 0.05, True, 1),
        (lambda rough, needed: rough // 2 - 1, 0.06, True, 1),  # its trace tells that it can't fit
    ],
)
def test_remat_where_it_does_not_fit_without(capacity, weight_decay, remat, compiled, tiny, caplog, monkeypatch):
    config = TuneConfig(tuning=TuningConfig(steps=1, weight_decay=weight_decay, dtype="float32"))
    arguments = memory.step_arguments(tiny, clip(), "a red disc", replace(config.tuning, remat=False), config.seed)
    rough = estimate_uncompiled(tuning_step, **arguments).needed
    hopeless = capacity(0, 0) == -1
    found = capacity(rough, 0 if hopeless else estimate(tuning_step, **arguments).needed)
    monkeypatch.setattr("vrwkv_jax.system.device_memory._ram", lambda: found)
    caplog.clear()
    with jax.log_compiles(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not fit even so
        run = tune(tiny, clip(), "a red disc", config)
    assert run.config.tuning.remat is remat
    assert compilations(caplog) == compiled  # what has been compiled above is not compiled again
    assert with_remat_chosen(tiny, clip(), "a red disc", run.config) is run.config


def test_auto_computes_as_the_editor_does(tiny):
    tuning = TuningConfig(steps=1, dtype="auto", remat=False)
    editor = replace(tiny, dtype="bfloat16")
    assert tune(editor, clip(), "a red disc", TuneConfig(tuning=tuning)).config.tuning.dtype == "bfloat16"


def test_no_step_needs_nothing(editor):
    tune(editor, clip(), "a red disc", TuneConfig(tuning=TuningConfig(steps=0)), say=pytest.fail)


def check(config: TuningConfig, found: Estimate, monkeypatch) -> None:
    monkeypatch.setattr(memory, "estimate", lambda *_, **__: found)
    memory.check_memory((16, 512, 768, 3), None, {"config": config})


def test_too_little_on_a_gpu(monkeypatch):
    found = Estimate(30_000_000_000, 18_000_000_000, "NVIDIA GeForce RTX 4090")
    with pytest.raises(UserError) as error:
        check(TuningConfig(dtype="float32", remat=False), found, monkeypatch)
    assert str(error.value) == (
        "tuning needs about 30.0 GB of the 18.0 GB that JAX may use of NVIDIA GeForce RTX 4090: "
        "lower frames (now 16), lower width and height (now 768x512), add remat=True, compute in dtype='bfloat16' "
        "or let JAX use more of it with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95"
    )


def test_advice_is_what_is_not_done_yet(monkeypatch):
    found = Estimate(30_000_000_000, 18_000_000_000, "this computer", is_limit=False)
    with pytest.warns(UserWarning) as warnings:
        check(TuningConfig(remat=True, dtype="bfloat16"), found, monkeypatch)
    assert str(warnings[0].message).endswith(": lower frames (now 16) or lower width and height (now 768x512)")
