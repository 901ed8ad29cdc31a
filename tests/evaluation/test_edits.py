"""Scores of clips of which it is known how wrong they are."""

import numpy as np
import pytest

from vrwkv_jax.evaluation.edits import flicker, score
from vrwkv_jax.world import Scene, Thing, edit, render

SOURCE = Scene((Thing("heart", "red", motion="right"),), "sand")
EDITS = {
    "colour": {"colour": "blue"},
    "shape": {"shape": "star"},
    "background": {"background": "night"},
    "style": {"style": "watercolour"},
}
FRAMES = 6


def clip(scene):
    return render(scene, FRAMES, 64)[0]


@pytest.mark.parametrize("kind", EDITS)
def test_the_true_edit(kind):
    target = edit(SOURCE, **EDITS[kind])
    s = score(clip(target), SOURCE, target, kind)
    assert (s.psnr, s.ssim, s.flicker) == (pytest.approx(68, abs=0.2), pytest.approx(1), 1)
    assert s.style == (1 if kind == "style" else None)
    if kind == "style":
        assert s.colour is s.colour_in_place is s.shape is s.iou is s.path_error is s.unchanged_psnr is None
    else:
        assert (s.colour, s.colour_in_place, s.shape) == (1, 1, 1)
        assert s.iou > 0.85 and s.path_error < 0.5 and s.unchanged_psnr > 50


@pytest.mark.parametrize("kind", EDITS)
def test_no_edit_at_all(kind):
    target = edit(SOURCE, **EDITS[kind])
    s = score(clip(SOURCE), SOURCE, target, kind)
    assert s.psnr < 30
    assert {"colour": s.colour, "shape": s.shape, "style": s.style}.get(kind, 0) == 0
    if kind in ("colour", "shape"):
        assert s.unchanged_psnr == pytest.approx(68, abs=0.2)


def test_path_error_in_pixels():
    target = edit(SOURCE, colour="blue")
    shifted = Scene((Thing("heart", "blue", (0.5, 0.5 + 4 / 64), motion="right"),), "sand")
    s = score(clip(shifted), SOURCE, target, "colour")
    assert s.path_error == pytest.approx(4, abs=0.5)
    assert 0.5 < s.iou < 0.8


def test_the_right_colour_elsewhere():
    target = edit(SOURCE, colour="blue")
    elsewhere = Scene((Thing("heart", "blue", (0.5, 0.15), motion="right"),), "sand")
    s = score(clip(elsewhere), SOURCE, target, "colour")
    assert (s.colour, s.colour_in_place) == (1, 0)


def test_nothing_to_be_seen():
    empty = np.round(255 * np.broadcast_to(0.0, (FRAMES, 64, 64, 3))).astype(np.uint8) + clip(SOURCE)[:, :1, :1]
    s = score(empty, SOURCE, edit(SOURCE, colour="blue"), "colour")
    assert (s.colour, s.shape) == (0, 0)
    assert s.path_error > 5 and s.unchanged_psnr < 30


def test_every_second_frame_wrong():
    target = edit(SOURCE, colour="blue")
    mixed = clip(target)
    mixed[::2] = clip(edit(SOURCE, colour="green"))[::2]
    s = score(mixed, SOURCE, target, "colour")
    assert s.colour == 0.5 and s.shape == 1
    assert s.flicker > 2


def test_no_ratio_to_a_truth_that_stands_still():
    still = Scene((Thing("heart", "red"),), "sand")
    assert score(clip(SOURCE), still, edit(still, colour="blue"), "colour").flicker is None


def test_flicker_is_zero_where_change_is_even():
    ramp = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 10, np.uint8)
    assert flicker(ramp) == 0
    blinking = np.stack([ramp[0], ramp[4], ramp[0], ramp[4]])
    assert flicker(blinking) == 80
