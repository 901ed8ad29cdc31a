"""Figures over time against plain formulas on whole clips."""

import numpy as np
import pytest

from tests.evaluation.clips import frozen, jittered, moving
from tests.media.videos import noise
from vrwkv_jax.evaluation.over_time import difference_correlation, difference_sums, mean_jitter, second_difference

EXACT = 1e-12  # float64 on both sides, in another order


def correlation(source, edit, pairs=slice(None)):
    count = range(len(source) - 1)
    sums = [difference_sums((source[i], source[i + 1]), (edit[i], edit[i + 1])) for i in count]
    return difference_correlation(np.array(sums)[pairs])


def jitter(source, edit, joined=None):
    joined = np.ones(len(source) - 1, bool) if joined is None else np.array(joined)
    return mean_jitter(source.mean((1, 2)), edit.mean((1, 2)), joined)


def test_second_difference():
    clip = noise(3, 5, 7, 3)
    expected = np.abs(np.diff(clip.astype(float), 2, axis=0)).mean()
    assert second_difference(*clip) == pytest.approx(expected, rel=EXACT)
    ramp = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 120, 240)])
    assert second_difference(*ramp) == 0
    assert second_difference(*(np.full((2, 2, 3), level, np.uint8) for level in (255, 0, 255))) == 510


@pytest.mark.parametrize("pairs", [slice(None), [0, 2, 3]])
def test_correlation_is_pearsons(pairs):
    source, edit = moving(5), noise(5, 45, 60, 3)
    edit = (0.5 * edit + 0.5 * source).astype(np.uint8)
    flat = [np.diff(clip.astype(float), axis=0)[pairs].ravel() for clip in (source, edit)]
    assert correlation(source, edit, pairs) == pytest.approx(np.corrcoef(*flat)[0, 1], rel=1e-10)


def test_correlation_of_what_stands_still():
    clip = moving(4)
    assert correlation(clip, clip) == pytest.approx(1, abs=1e-12)
    assert correlation(clip, 255 - clip) == pytest.approx(-1, abs=1e-12)
    assert correlation(clip, frozen(clip)) == 0
    assert correlation(frozen(clip), clip) is None
    assert correlation(frozen(clip), frozen(clip)) is None
    assert difference_correlation(np.zeros((0, 6))) is None


def test_jitter():
    clip = moving(6)
    assert jitter(clip, clip) == 0
    assert jitter(clip, np.minimum(clip, 250) + 5 * (clip <= 250)) < 0.2  # a tint is no jitter
    edit = jittered(clip)
    offsets = edit.mean((1, 2)) - clip.mean((1, 2))
    expected = np.mean([abs(offsets[t] - offsets[t - 1]) for t in range(1, 6)])
    assert jitter(clip, edit) == pytest.approx(expected, rel=EXACT) and expected > 5
    jump = np.concatenate([clip[:3], np.maximum(clip[3:], 20) - 20])
    joined = [True, True, False, True, True]
    assert jitter(clip, jump) > 3 and jitter(clip, jump, joined) < 0.2
    assert jitter(clip, clip, [False] * 5) is None
