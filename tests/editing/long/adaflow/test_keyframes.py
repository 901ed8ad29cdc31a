"""Partitions of constructed clips, which are known exactly."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.keyframes import clip_starts, similarity, window_means

HEIGHT, WIDTH, CHANNELS = 5, 7, 64
RNG = np.random.default_rng(0)


def scene(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Places that are like none of another scene: random directions in 64 dimensions."""
    found = RNG.normal(size=(height, width, CHANNELS)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def starts(frames, **settings) -> list[int]:
    return list(clip_starts(frames, AdaFlowConfig(**settings)))


def video(*lengths: int) -> list[np.ndarray]:
    return [frame for length in lengths for frame in [scene()] * length]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((4, 5, 3), [0, 4, 9]),
        ((3, 1, 1, 2), [0, 3, 4, 5]),
        ((2, 3, 1), [0, 2, 5]),  # the last frame alone
        ((12,), [0]),
        ((1,) * 10, list(range(10))),
        ((1,), [0]),
        ((), []),
    ],
)
def test_scenes(lengths, expected):
    assert starts(video(*lengths)) == expected


def test_a_clip_is_no_longer_than_it_may_be():
    assert starts(video(7), max_clip=3) == [0, 3, 6]
    assert starts(video(3, 4), max_clip=3) == [0, 3, 6]
    assert starts(video(2, 5), max_clip=3) == [0, 2, 5]
    assert starts(video(4), max_clip=1) == [0, 1, 2, 3]


def test_uniform():
    """Whatever is in the frames, which need not even have features."""
    assert starts(video(4, 3, 1), selection="uniform", max_clip=3) == [0, 3, 6]
    assert starts(range(9), selection="uniform", max_clip=3) == [0, 3, 6]


def test_the_first_frame_of_a_clip_is_what_others_are_compared_with():
    """A slow change ends a clip when it has gone far from the first frame; neighbours are always similar."""
    ends = scene(), scene()
    slow = [np.cos(angle) * ends[0] + np.sin(angle) * ends[1] for angle in np.linspace(0, np.pi / 2, 10)]
    slow = [(frame / np.linalg.norm(frame, axis=-1, keepdims=True)).astype(np.float32) for frame in slow]
    # cos falls below 0.75 at 41.4 degrees; the places are nearly orthogonal to all others, so each matches itself
    assert starts(slow, window_similarity=-1) == [0, 5]


def test_a_change_of_a_small_window_is_enough():
    """One that leaves the mean high, anywhere in the frame, the last rows and columns included."""
    height, width = 20, 64  # windows of 4x4 places, 2 apart
    for top, left in ((0, 0), (8, 30), (16, 60)):
        before = scene(height, width)
        after = before.copy()
        after[top : top + 4, left : left + 4] = scene(4, 4)
        mean, least = similarity(before, after)
        assert mean > 0.98 and least < 0.6
        assert starts([before, before, after]) == [0, 2]
        assert starts([before, before, after], window_similarity=-1) == [0]


@pytest.mark.parametrize(("height", "width", "window", "stride"), [(48, 84, 5, 2), (3, 64, 3, 2), (5, 7, 2, 1)])
def test_similarity(height, width, window, stride):
    """Against the definition in float64."""
    one, other = scene(height, width), scene(height, width)
    places = np.einsum("hwd,ijd->hwij", np.float64(one), np.float64(other)).max((2, 3))
    means = [
        places[row : row + window, column : column + window].mean()
        for row, column in itertools.product(
            *({*range(0, size - window, stride), size - window} for size in (height, width))
        )
    ]
    found = [float(x) for x in similarity(one, other)]
    # sums of 64 products, then of a few hundred: some roundings of 6e-8
    np.testing.assert_allclose(found, [places.mean(), min(means)], atol=1e-6)
    assert window_means(jnp.float32(places)).size == len(means)


def test_going_on_at_a_start():
    frames = video(4, 5, 3, 1)
    config = AdaFlowConfig(max_clip=4)
    whole = list(clip_starts(frames, config))
    assert whole == [0, 4, 8, 9, 12]
    for start in whole:
        assert list(clip_starts(frames[start:], config, first=start)) == [other for other in whole if other >= start]
