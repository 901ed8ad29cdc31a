"""Warp errors on clips whose true motion is known, and against the same formulas by scipy in float64."""

import numpy as np
import pytest
from scipy import ndimage

from tests.evaluation.clips import moving, texture
from vrwkv_jax.evaluation.optical_flow import ABSOLUTE, RELATIVE, correspondence, warp_differences

cv2 = pytest.importorskip("cv2", reason="OpenCV is optional: pip install 'vrwkv-jax[metrics]'")


@pytest.mark.parametrize("step", [(0, 0), (1, 2), (-3, 1)], ids=["still", "slow", "up"])
def test_finds_the_motion_of_a_camera(step):
    rows, columns = step
    whole = texture(90, 110).round().astype(np.uint8)
    before, after = whole[10:55, 10:71], whole[10 + rows : 55 + rows, 10 + columns : 71 + columns]
    found = correspondence(before, after)
    y, x = np.mgrid[:45, :61]
    true = np.stack([x + columns, y + rows], axis=-1)  # what is at p was at p + step
    inner = (slice(8, -8),) * 2
    assert np.abs(found.places - true)[inner].max() < 0.3  # DIS is not exact; within a third of a pixel here
    assert np.abs(found.places - true)[inner].mean() < 0.05
    assert found.visible[inner].all()
    entered = (true < 0).any(-1) | (true[..., 0] > 60) | (true[..., 1] > 44)
    assert not found.visible[entered & (np.abs(found.places - true).max(-1) < 0.3)].any()
    errors = warp_differences(before, after, found.places)
    assert errors[inner].mean() < 0.5  # of 255
    if any(step):
        unwarped = np.abs(after.astype(float) - before).mean()
        assert unwarped > 10 * errors[inner].mean()


def test_what_a_thing_uncovers_is_not_visible():
    """A square that moves right uncovers a strip on its left, which was not to be seen before."""
    background, thing = texture(60, 80, 1), texture(20, 20, 2)
    before, after = background.copy(), background.copy()
    before[20:40, 30:50], after[20:40, 35:55] = thing, thing
    found = correspondence(*(frame.round().astype(np.uint8) for frame in (before, after)))
    assert found.visible[23:37, 30:35].mean() < 0.6  # half of it: DIS carries the flow of neighbours into the strip
    assert found.visible[23:37, 40:52].mean() > 0.95  # on the thing
    assert found.visible[:12].mean() > 0.95 and found.visible[:, 62:].mean() > 0.95


def test_formulas_by_scipy():
    before, after = moving(3, step=(2, 1))[[0, 2]]
    found = correspondence(before, after)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    forward, backward = (dis.calc(one, other, None).astype(np.float64) for one, other in (grey, grey[::-1]))
    places = backward + np.stack(np.mgrid[:45, :60][::-1], axis=-1)
    np.testing.assert_allclose(found.places, places, rtol=0, atol=1e-4)  # float32 of numbers up to 60

    def sampled(values):
        axes = [places[..., 1], places[..., 0]]
        return np.stack(
            [ndimage.map_coordinates(v, axes, order=1, mode="nearest") for v in values.T.swapaxes(1, 2)], -1
        )

    there = sampled(forward)
    gap = ((backward + there) ** 2).sum(-1)
    bound = RELATIVE * ((backward**2).sum(-1) + (there**2).sum(-1)) + ABSOLUTE
    inside = ((places >= 0) & (places <= [59, 44])).all(-1)
    clear = np.abs(gap - bound) > 0.02  # OpenCV samples at places rounded to a 32nd of a pixel
    np.testing.assert_array_equal(found.visible[clear], (inside & (gap <= bound))[clear])
    assert clear.mean() > 0.5 and 0.3 < found.visible.mean() < 1

    expected = np.abs(sampled(before.astype(np.float64)) - after).mean(-1)
    steepest = np.abs(np.diff(before.astype(float), axis=0)).max() + np.abs(np.diff(before.astype(float), axis=1)).max()
    actual = warp_differences(before, after, found.places)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=steepest / 64 + 1e-3)
    assert np.abs(actual - expected).mean() < steepest / 200
