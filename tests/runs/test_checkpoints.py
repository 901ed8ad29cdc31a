"""Checkpoints of a tuning: they come back bit by bit, two are kept, and a damaged one is passed over."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vrwkv_jax.runs.checkpoints
from vrwkv_jax.checkpoint import native
from vrwkv_jax.config import TuningConfig
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.optimizer import make_optimizer
from vrwkv_jax.tuning.state import TuningState

ABOUT = {"seed": 33, "provenance": {"prompt": "a disc"}}


def state(step: int) -> TuningState:
    """After ``step`` steps; weights and gains both have an optimizer state."""
    rng = np.random.default_rng(step)
    shapes = {"mid_block/attentions/0/to_q/kernel": (64, 65), "mid_block/mixer/time/mu_r": (7,)}
    tuned = {path: jnp.asarray(rng.normal(size=shape), jnp.float32) for path, shape in shapes.items()}
    moments = make_optimizer(TuningConfig()).init(tuned)
    return TuningState(step, tuned, jax.tree.map(lambda leaf: leaf + step, moments))


def assert_same(actual: TuningState, expected: TuningState) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Of the steps 10 and 20."""
    checkpoints = Checkpoints(tmp_path / "unfinished")
    for step in (5, 10, 20):
        checkpoints.save(state(step), ABOUT)
    return checkpoints


def newest(checkpoints: Checkpoints) -> TuningState | None:
    return checkpoints.newest(jax.eval_shape(lambda: state(0)))


def test_the_last_two_are_kept_and_the_newest_comes_back(checkpoints):
    assert checkpoints.steps == [10, 20]
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["step-000010", "step-000020"]
    assert_same(newest(checkpoints), state(20))
    about = checkpoints.about()
    assert about["step"] == 20 and about["seed"] == 33 and about["provenance"] == {"prompt": "a disc"}


def test_what_comes_back_takes_no_memory_of_a_device(checkpoints, monkeypatch):
    """Parameters and moments that are cut over devices might be too large for one of them."""
    on_devices, before = [], len(jax.live_arrays())
    checksums = vrwkv_jax.runs.checkpoints.checksums

    def counting(arrays):
        on_devices.append(len(jax.live_arrays()))
        return checksums(arrays)

    monkeypatch.setattr(vrwkv_jax.runs.checkpoints, "checksums", counting)
    restored = newest(checkpoints)
    assert on_devices == [before]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((restored.tuned, restored.optimizer)))


def test_without_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "nothing")
    assert checkpoints.steps == [] and newest(checkpoints) is None and checkpoints.about() is None


def damage(directory, how: str) -> None:
    data = [path for path in (directory / "params").rglob("*") if path.is_file() and path.stat().st_size > 10_000]
    assert data
    if how == "truncated":
        for path in data:
            path.write_bytes(path.read_bytes()[:5000])
    elif how == "other bytes":
        for path in data:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 255
            path.write_bytes(content)
    elif how == "other numbers":
        shutil.rmtree(directory / "params")
        arrays = native.restore(directory.parent / "step-000010")
        native.save(directory, arrays)
    elif how == "without params":
        shutil.rmtree(directory / "params")
    elif how == "without state":
        (directory / "state.json").unlink()
    elif how == "half a state":
        path = directory / "state.json"
        path.write_text(path.read_text()[:40])
    elif how == "state without checksums":
        (directory / "state.json").write_text("{}")


@pytest.mark.parametrize(
    "how",
    [
        *("truncated", "other bytes", "other numbers", "without params"),
        *("without state", "half a state", "state without checksums"),
    ],
)
def test_a_damaged_newest_is_passed_over(how, checkpoints):
    damage(checkpoints.directory / "step-000020", how)
    with pytest.warns(UserWarning, match=r"step 20 is damaged, so that of step 10 is taken instead"):
        restored = newest(checkpoints)
    assert_same(restored, state(10))
    # Between the two: neither counts as one of the last two of the other.
    checkpoints.save(state(15), ABOUT)
    assert checkpoints.steps == [10, 15, 20]
    checkpoints.save(state(20), ABOUT)
    assert_same(newest(checkpoints), state(20))


def test_all_damaged(checkpoints):
    for step in (10, 20):
        damage(checkpoints.directory / f"step-{step:06}", "truncated")
    with pytest.raises(UserError, match=r"every .* is damaged: start again with overwrite=True") as caught:
        newest(checkpoints)
    assert "step-000010" in str(caught.value) and "step-000020" in str(caught.value)


def test_a_save_that_fails_leaves_what_was_there(checkpoints, monkeypatch):
    """As on a full disk, in the middle of the arrays and in the file beside them."""
    full = UserError("/x/.step-000030.part/params can't be written (No space left on device): free space")

    def failing_save(directory, params):
        (directory / "params.orbax-checkpoint-tmp").mkdir(parents=True)
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(native, "save", failing_save)
        with pytest.raises(UserError, match=r"step 30 was not written \(.*No space left.*; .* step 20 is whole"):
            checkpoints.save(state(30), ABOUT)
    names = ["step-000010", "step-000020"]
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == names
    assert_same(newest(checkpoints), state(20))


def test_a_save_that_was_killed_is_cleared_away(checkpoints):
    left = checkpoints.directory / ".step-000030.part"
    shutil.copytree(checkpoints.directory / "step-000020", left)
    assert checkpoints.steps == [10, 20]
    checkpoints.save(state(30), ABOUT)
    assert not left.exists() and checkpoints.steps == [20, 30]
    assert json.loads((checkpoints.directory / "step-000030" / "state.json").read_text())["step"] == 30
