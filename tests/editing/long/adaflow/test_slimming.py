"""Which tokens keyframes attend to, and attention to them, against dense formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.long.adaflow.unets import normal, softmax, unit
from vrwkv_jax.editing.long.adaflow import similarity
from vrwkv_jax.editing.long.adaflow.similarity import best_matches
from vrwkv_jax.editing.long.adaflow.slimming import slimmed, slimmed_attention

KEYFRAMES, TOKENS, BUDGET = 5, 7, 2


def chosen(features: np.ndarray, budget: int) -> np.ndarray:
    """For each keyframe whether it attends to each token: ``bool[M, M S]``."""
    keyframes, tokens = features.shape[:2]
    cosines = np.einsum("atd,bsd->abts", np.float64(features), np.float64(features))
    seen = np.zeros((keyframes, keyframes * tokens), bool)
    for own in range(keyframes):
        scores = cosines[:, own].max(-1)
        scores[own] = np.inf
        seen[own, np.argsort(-scores.reshape(-1), kind="stable")[: budget * tokens]] = True
    return seen


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """``softmax(q k^T / sqrt(D), where not seen: -inf) v`` for ``R M S N D``."""
    rows, keyframes, tokens, heads, width = q.shape
    queries, keys, values = (np.float64(x).reshape(rows, keyframes * tokens, heads, width) for x in (q, k, v))
    scores = np.einsum("rqnd,rknd->rnqk", queries, keys) / np.sqrt(width)
    scores = np.where(np.repeat(seen, tokens, axis=0), scores, -np.inf)
    return np.einsum("rnqk,rknd->rqnd", softmax(scores), values).reshape(q.shape)


@pytest.mark.parametrize("at_once", [None, 3])
def test_the_nearest(at_once, monkeypatch):
    places, others = unit(8, 6), unit(11, 6)
    if at_once is not None:
        monkeypatch.setattr(similarity, "MAX_BYTES", at_once * 4 * 11)
    traced = str(jax.make_jaxpr(lambda *given: best_matches(*given))(places, others))
    assert ("scan" in traced) == (at_once is not None)
    most, index = best_matches(jnp.asarray(places), jnp.asarray(others))
    cosines = np.float64(places) @ np.float64(others).T
    np.testing.assert_array_equal(index, cosines.argmax(1))
    np.testing.assert_allclose(most, cosines.max(1), atol=1e-6)  # sums of 6 products of float32


def test_the_first_of_those_that_are_alike():
    others = np.repeat(unit(3, 6), 2, axis=0)
    np.testing.assert_array_equal(best_matches(jnp.asarray(others), jnp.asarray(others))[1], [0, 0, 2, 2, 4, 4])


def test_which_tokens():
    features = unit(KEYFRAMES, TOKENS, 4)
    indices = np.asarray(slimmed(jnp.asarray(features), BUDGET))
    assert indices.shape == (KEYFRAMES, BUDGET * TOKENS)
    expected = chosen(features, BUDGET)
    np.testing.assert_array_equal(indices, [np.flatnonzero(row) for row in expected])
    own = expected.reshape(KEYFRAMES, KEYFRAMES, TOKENS)
    assert all(own[keyframe, keyframe].all() for keyframe in range(KEYFRAMES))
    assert len(np.unique(own.sum(-1))) > 2  # parts of frames, not whole frames


def test_own_tokens_are_kept_beside_copies_of_themselves():
    """Cosines of 1, too, which rounding may put above or below."""
    features = np.tile(unit(1, TOKENS, 4), (KEYFRAMES, 1, 1))
    indices = np.asarray(slimmed(jnp.asarray(features), 1))
    np.testing.assert_array_equal(indices, np.arange(KEYFRAMES * TOKENS).reshape(KEYFRAMES, TOKENS))


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_slimmed_attention(budget):
    """In all rows to the same tokens."""
    features = unit(KEYFRAMES, TOKENS, 4)
    q, k, v = (2 * normal(2, KEYFRAMES, TOKENS, 3, 4) for _ in range(3))
    indices = slimmed(jnp.asarray(features), budget)
    found = jax.jit(slimmed_attention)(q, k, v, indices)
    expected = attention(q, k, v, chosen(features, budget))
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())  # as in test_attention.py
    everything = attention(q, k, v, np.ones((KEYFRAMES, KEYFRAMES * TOKENS), bool))
    assert np.abs(expected - everything).max() > 0.1


def test_the_whole_budget_is_extended_attention():
    features = unit(KEYFRAMES, TOKENS, 4)
    assert slimmed(jnp.asarray(features), KEYFRAMES) is None
    q, k, v = (2 * normal(2, KEYFRAMES, TOKENS, 3, 4) for _ in range(3))
    extended = attention(q, k, v, np.ones((KEYFRAMES, KEYFRAMES * TOKENS), bool))
    every = jnp.tile(jnp.arange(KEYFRAMES * TOKENS), (KEYFRAMES, 1))
    for indices in (None, every):  # at once, and by the way of one keyframe after the other
        found = jax.jit(slimmed_attention)(q, k, v, indices)
        np.testing.assert_allclose(found, extended, atol=2e-6 * np.abs(extended).max())


def test_keys_of_one_keyframe_at_a_time():
    """No array has the keys of all keyframes for all keyframes."""
    q = jax.ShapeDtypeStruct((2, KEYFRAMES, TOKENS, 3, 4), jnp.float32)
    indices = jax.ShapeDtypeStruct((KEYFRAMES, BUDGET * TOKENS), jnp.int32)
    lowered = jax.jit(slimmed_attention).trace(q, q, q, indices).lower().as_text()
    assert f"tensor<2x{BUDGET * TOKENS}x3x4xf32>" in lowered
    for shape in (f"2x{KEYFRAMES}x{BUDGET * TOKENS}x3x4", f"{KEYFRAMES}x2x{BUDGET * TOKENS}x3x4"):
        assert f"tensor<{shape}xf32>" not in lowered
