"""DAPE: its adapter in float64, an edited U-Net that starts as it was, and what each stage tunes."""

import re
from dataclasses import replace
from itertools import chain
from math import erf

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.edit_quality import methods
from benchmarks.edit_quality.dape import ADAPTERS, NORMS, STAGES, Adapter, _steps, adapted, tune_in_stages
from tests.models.test_vrwkv import layer_norm
from tests.models.tiny_unet import randomized
from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import parse_tune_config
from vrwkv_jax.models import params as P
from vrwkv_jax.models.parameter_rules import trained


def oracle(params: P.Params, x: np.ndarray) -> np.ndarray:
    p = {path: np.asarray(leaf, np.float64) for path, leaf in params.items()}
    y = layer_norm(x, p["norm/scale"], p["norm/bias"]) * p["gamma"] + x * p["gammax"]
    y = y @ p["down/kernel"] + p["down/bias"]
    padded = np.pad(y, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)))
    mixed, (height, width) = y + p["conv/bias"], y.shape[2:4]
    for row, column in np.ndindex(5, 5):
        place = padded[:, :, row : row + height, column : column + width]
        mixed = mixed + place * p["conv/kernel"][row, column, 0]
    gelu = mixed * (1 + np.vectorize(erf)(mixed / np.sqrt(2))) / 2
    return x + gelu @ p["up/kernel"] + p["up/bias"]


def test_the_adapter_is_its_formula():
    """Values; and gradients, of each parameter and of the clip, along a random direction."""
    graphdef, shapes = P.abstract(lambda rngs: Adapter(12, rngs=rngs))
    rng, params = np.random.default_rng(1), randomized(shapes)
    x, cotangent, along = rng.normal(size=(3, 1, 2, 4, 6, 12)).astype(np.float32)
    output, back = jax.vjp(lambda params, x: P.merge(graphdef, params)(x), params, x)
    np.testing.assert_allclose(output, oracle(params, x.astype(np.float64)), rtol=0, atol=2e-5)
    in_params, in_x = back(cotangent)

    def slope(path: str, direction: np.ndarray) -> float:
        given = {"x": x, **params}

        def at(step: float) -> float:
            moved = {**given, path: given[path].astype(np.float64) + step * direction}
            return float((oracle(moved, moved["x"].astype(np.float64)) * cotangent).sum())

        return (at(1e-5) - at(-1e-5)) / 2e-5

    assert (in_x * along).sum() == pytest.approx(slope("x", along), rel=1e-4, abs=1e-3)
    for path, gradient in in_params.items():
        direction = rng.normal(size=gradient.shape)
        assert (gradient * direction).sum() == pytest.approx(slope(path, direction), rel=1e-4, abs=1e-3), path


@pytest.fixture(scope="module")
def plain(checkpoint) -> dict[str, Editor]:
    config = parse_tune_config([])
    return {
        method: Editor.from_pretrained(checkpoint, video=methods.configured(method, config).video_model)
        for method in ("dape", "vrwkv + norms")
    }


@pytest.mark.parametrize("method", ["dape", "vrwkv + norms"])
def test_before_tuning_the_u_net_is_as_it_was(method, plain):
    latents, text = np.random.default_rng(0).normal(size=(1, 3, 8, 8, 4)), plain[method].encode_prompts(["a star"])
    new = adapted(method, plain[method], seed=0)
    before, after = (
        jax.jit(editor.denoiser.predict)(latents.astype(np.float32), np.array([500]), text)
        for editor in (plain[method], new)
    )
    # The same sums, compiled in another order.
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-6 * np.abs(before).max())


@pytest.mark.parametrize("method", ["dape", "vrwkv + norms"])
def test_what_is_tuned(method, plain):
    params = adapted(method, plain[method], seed=0).unet.params
    norms, adapters = ({path for path in params if rule.search(path)} for rule in (NORMS, ADAPTERS))
    old = {
        path for path in plain[method].unet.params if re.search("norm.*/(scale|bias)$", path) and "mixer" not in path
    }
    assert {re.sub("/norm(/[^/]*)$", r"\1", path) for path in norms if "gamma0" not in path} == old
    assert len([path for path in norms if "gamma0" in path]) == len(old) // 2 and not norms & adapters
    assert {path.split("/transformer_blocks")[0] for path in adapters} == (
        {"up_blocks/0/attentions/0", "up_blocks/0/attentions/1"} if method == "dape" else set()
    )
    beside = [path for path in params if trained("mixers", "vrwkv").search(path)] if "vrwkv" in method else []
    tuned = [{path for path in params if stage.tuned.search(path)} for stage in STAGES[method]]
    assert tuned == [norms.union(beside), adapters][: len(tuned)]


@pytest.mark.long
@pytest.mark.parametrize("method", ["dape even", "vrwkv + norms"])
def test_each_stage_moves_all_that_it_tunes_and_leaves_the_rest(method, plain, monkeypatch):
    config = replace(parse_tune_config(["--steps", "4"]), prompt="a star")
    editor = adapted(method, plain["dape" if "dape" in method else method], seed=0)
    tuned = tune_in_stages(method, editor, clip(), config).params
    moved = {path for path in tuned if not np.array_equal(tuned[path], editor.unet.params[path])}
    assert moved == {path for path in editor.unet.params if any(s.tuned.search(path) for s in STAGES[method])}
    if method == "dape even":
        monkeypatch.setitem(STAGES, "norms", (STAGES[method][0]._replace(steps=1),))
        config = replace(config, tuning=replace(config.tuning, steps=2))
        first = tune_in_stages("norms", editor, clip(), config).params
        assert set(first) == {path for path in moved if NORMS.search(path)}
        for path, leaf in first.items():
            np.testing.assert_array_equal(tuned[path], leaf)


def test_steps_of_stages():
    for method, total, expected in [("dape", 470, [400, 70]), ("dape", 100, [85, 15]), ("dape even", 5, [2, 3])]:
        steps = [list(steps) for _, steps in _steps(STAGES[method], total)]
        assert [len(own) for own in steps] == expected and list(chain(*steps)) == list(range(1, total + 1))


def test_a_new_adapter_is_the_identity():
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3, 8)).astype(np.float32)
    np.testing.assert_array_equal(Adapter(8, rngs=nnx.Rngs(0))(x), x)
