"""The training loop: it learns, its average is one, and an interruption changes nothing."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.pretrain.fit import Recipe, fit, seconds_spent
from vrwkv_jax.system.errors import UserError

RECIPE = Recipe(steps=30, learning_rate=0.05, warmup=3, weight_decay=0.0, ema=0.9, checkpoint_every=10)
SLOPE = np.array([2.0, -1.0, 0.5], np.float32)


def loss(params, batch, key):
    x, y = batch
    error = x @ params["weights"] + params["offset"] - y
    return jnp.mean(error**2), {"noise": jax.random.normal(key, ())}


def batch(rng, step):
    x = rng.normal(size=(16, 3)).astype(np.float32)
    return x, x @ SLOPE + 1


def start():
    return {"weights": jnp.zeros(3), "offset": jnp.zeros(())}


def test_it_learns(tmp_path):
    recipe = Recipe(steps=400, learning_rate=0.05, warmup=10, weight_decay=0.0, ema=0.9)
    params = fit("test", start(), loss, batch, recipe, tmp_path)
    np.testing.assert_allclose(params["weights"], SLOPE, atol=0.01)
    np.testing.assert_allclose(params["offset"], 1, atol=0.01)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(0, 400, 20), 399]
    assert lines[-1]["loss"] < 1e-3 < lines[0]["loss"]


def test_interrupted_and_resumed(tmp_path):
    """Stopped at step 17, it goes on from the checkpoint after step 10, bit for bit."""
    whole = fit("test", start(), loss, batch, RECIPE, tmp_path / "whole")

    def failing_batch(rng, step):
        if step == 17:
            raise KeyboardInterrupt
        return batch(rng, step)

    with pytest.raises(KeyboardInterrupt):
        fit("test", start(), loss, failing_batch, RECIPE, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").glob("step-*")] == ["step-000010"]

    def resumed_batch(rng, step):
        assert step >= 10
        return batch(rng, step)

    resumed = fit("test", start(), loss, resumed_batch, RECIPE, tmp_path / "other")
    for path, leaf in whole.items():
        np.testing.assert_array_equal(leaf, resumed[path])
    assert sorted(path.name for path in (tmp_path / "other").glob("step-*")) == ["step-000020", "step-000030"]


def test_another_recipe_is_refused(tmp_path):
    fit("test", start(), loss, batch, RECIPE, tmp_path)
    with pytest.raises(UserError, match=r"learning_rate was 0.05 and is 0.1, seed was 0 and is 1; go on with its own"):
        fit("test", start(), loss, batch, replace(RECIPE, learning_rate=0.1, seed=1), tmp_path)
    with pytest.raises(UserError, match="what was test and is something else"):
        fit("something else", start(), loss, batch, RECIPE, tmp_path)


def test_finished_training_is_not_repeated(tmp_path):
    def no_batch(rng, step):
        raise AssertionError

    once = fit("test", start(), loss, batch, RECIPE, tmp_path)
    again = fit("test", start(), loss, no_batch, RECIPE, tmp_path)
    np.testing.assert_array_equal(once["weights"], again["weights"])


def test_for_so_many_minutes(tmp_path):
    """It ends on time at a rate of 0, keeps where it ended, and is done when it is started again."""
    recipe = replace(RECIPE, minutes=1 / 60, warmup=0)
    first = fit("test", start(), loss, batch, recipe, tmp_path)
    assert seconds_spent(tmp_path) < 60
    assert np.linalg.norm(first["weights"] - SLOPE) < np.linalg.norm(SLOPE)  # however few steps a second has
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    again = fit("test", start(), loss, batch, recipe, tmp_path)
    np.testing.assert_array_equal(first["weights"], again["weights"])
    assert kept == sorted(path.name for path in tmp_path.glob("step-*"))
