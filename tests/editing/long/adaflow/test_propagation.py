"""What frames take from keyframes, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.long.adaflow.unets import normal, unit
from vrwkv_jax.editing.long.adaflow.neighbours import Neighbours
from vrwkv_jax.editing.long.adaflow.propagation import Taking, matches, propagate

KEYFRAMES, FRAMES, TOKENS = 3, 4, 7
ONE = Taking(
    jnp.array([[0, 2, 1, 2]], jnp.int32), jnp.ones((1, FRAMES)), jnp.array([[False, False, True, False]], bool)
)
TWO = Taking(
    jnp.array([[0, 2, 1, 2], [1, 2, 0, 1]], jnp.int32),
    jnp.array([[0.5, 1, 0.75, 0.9], [0.5, 0, 0.25, 0.1]]),
    jnp.array([[False, False, True, False], [False] * 4], bool),
)


@pytest.mark.parametrize("taking", [ONE, TWO], ids=["one", "two"])
def test_matches(taking):
    features, of_keyframes = unit(FRAMES, TOKENS, 4), unit(KEYFRAMES, TOKENS, 4)
    found = jax.jit(matches)(features, of_keyframes, taking)
    for part, row in enumerate(np.asarray(taking.keyframes)):
        for frame, keyframe in enumerate(row):
            cosines = np.float64(features[frame]) @ np.float64(of_keyframes[keyframe]).T
            expected = range(TOKENS) if taking.is_own[part, frame] else cosines.argmax(1)
            np.testing.assert_array_equal(found[part, frame], expected)


@pytest.mark.parametrize("taking", [ONE, TWO], ids=["one", "two"])
def test_propagation(taking):
    outputs = normal(2, KEYFRAMES, TOKENS, 3, 4)
    phi = np.random.default_rng(1).integers(0, TOKENS, (len(taking.keyframes), FRAMES, TOKENS)).astype(np.int32)
    found = jax.jit(propagate)(outputs, phi, taking)
    expected = np.zeros((2, FRAMES, TOKENS, 3, 4))
    for part, (row, weights) in enumerate(zip(taking.keyframes, np.float64(taking.weights), strict=True)):
        for frame in range(FRAMES):
            for place in range(TOKENS):
                expected[:, frame, place] += weights[frame] * outputs[:, row[frame], phi[part, frame, place]]
    # a sum of two products
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if taking is ONE:
        np.testing.assert_array_equal(found, np.float32(expected))


def test_with_identity_matches_it_is_the_keyframe():
    outputs = normal(2, KEYFRAMES, TOKENS, 3, 4)
    identity = jnp.tile(jnp.arange(TOKENS, dtype=jnp.int32), (1, FRAMES, 1))
    np.testing.assert_array_equal(
        propagate(jnp.asarray(outputs), identity, ONE), outputs[:, np.asarray(ONE.keyframes[0])]
    )


def test_from_which_clips():
    plain = Neighbours([0, 4, 9], blend=0)
    assert [plain.of(frame) for frame in (0, 3, 4, 8, 9, 11)] == [(c, c, 0) for c in (0, 0, 1, 1, 2, 2)]
    assert plain.clips(range(3, 9)) == [0, 1]
    taking = plain.taking([3, 4, 5], [0, 1, 1], [3, 5, 10])
    np.testing.assert_array_equal(taking.keyframes, [[0, 1, 1]])
    np.testing.assert_array_equal(taking.weights, [[1, 1, 1]])
    np.testing.assert_array_equal(taking.is_own, [[True, False, True]])


def test_blending_goes_from_half_to_nothing():
    """The same on both sides of a border, and one clip alone has no border."""
    blended = Neighbours([0, 8, 16], blend=4)
    found = [blended.of(frame) for frame in range(24)]
    assert [other for _, other, _ in found] == [0] * 4 + [1] * 4 + [0] * 4 + [2] * 4 + [1] * 4 + [2] * 4
    falling = [0.4375, 0.3125, 0.1875, 0.0625]  # (1 - d / 4) / 2 at d = 0.5, 1.5, ...
    expected = [0.0] * 4 + falling[::-1] + falling + falling[::-1] + falling + [0.0] * 4
    np.testing.assert_allclose([weight for *_, weight in found], expected)
    assert blended.clips([10]) == [0, 1] and blended.clips([0]) == [0] and blended.clips([8]) == [0, 1]
    taking = blended.taking([9, 20], [0, 1, 2], [5, 9, 17])
    np.testing.assert_array_equal(taking.keyframes, [[1, 2], [0, 2]])
    np.testing.assert_allclose(taking.weights, [[1 - 0.3125, 1], [0.3125, 0]])
    np.testing.assert_array_equal(taking.is_own, [[True, False], [False, False]])
    # In a clip of one frame, as near to both: the one before.
    assert Neighbours([0, 5, 6], blend=2).of(5) == (1, 0, 0.375)
    assert Neighbours([0], blend=2).of(5) == (0, 0, 0.0)
