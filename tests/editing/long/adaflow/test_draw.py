"""Which keyframes are drawn, and windows of them."""

import numpy as np
import pytest

from vrwkv_jax.editing.long.adaflow.draw import draw
from vrwkv_jax.editing.long.adaflow.windows import windows


def test_what_was_drawn_once_is_drawn_again():
    """The same with every version of numpy and JAX: an edit that goes on must go on with these."""
    assert draw(33, 0, [0, 40, 41], 1000) == [16, 40, 505]
    assert draw(33, 1, [0, 40, 41], 1000) == [38, 40, 699]
    assert draw(-1, 7, [0, 40, 41], 1000) == [12, 40, 325]


def test_a_clip_s_draw_does_not_depend_on_the_others():
    starts = [0, 10, 37]
    whole = draw(5, 3, starts, 60)
    assert draw(5, 3, starts[:2], 37) == whole[:2]
    assert draw(5, 3, [0, 10, 37, 60], 90)[:3] == whole


def test_all_frames_are_as_likely():
    times = 4000
    drawn = np.array([draw(0, step, [0, 5], 8) for step in range(times)])
    for clip, (first, last) in enumerate([(0, 5), (5, 8)]):
        counts = np.bincount(drawn[:, clip], minlength=8)
        assert counts[:first].sum() == counts[last:].sum() == 0
        expected = times / (last - first)
        # five standard deviations of a binomial count
        np.testing.assert_allclose(counts[first:last], expected, atol=5 * expected**0.5)
    assert np.abs(np.corrcoef(drawn.T)[0, 1]) < 5 / times**0.5


@pytest.mark.parametrize(("count", "most"), [(1, 1), (5, 8), (8, 8), (9, 8), (17, 8), (450, 32), (7, 1), (10, 3)])
def test_windows(count, most):
    found = windows(count, most)
    size = min(count, most)
    assert [place for window in found for place in window.kept] == list(range(count))
    assert len(found) == -(-count // most)
    for window in found:
        inside = range(window.start, window.start + size)
        assert inside.start >= 0 and inside.stop <= count and {*window.kept} <= {*inside}


def test_keyframes_come_from_where_they_have_neighbours():
    assert windows(9, 6) == [(0, range(0, 4)), (3, range(4, 9))]
    assert windows(12, 6) == [(0, range(0, 6)), (6, range(6, 12))]
