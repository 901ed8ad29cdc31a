"""Pixels: exact areas, masks that account for the picture, the same every time."""

import math

import numpy as np
import pytest

from vrwkv_jax.world import Scene, Thing, edit, random_scene, render
from vrwkv_jax.world.drawing import background, coverage
from vrwkv_jax.world.scene import BACKGROUNDS, COLOURS, MEAN_COLOURS, MOTIONS, SHAPES, SIZES, STYLES

AREAS = {  # in squared radii
    "circle": math.pi,
    "square": 4 * 0.88**2,
    "triangle": 0.6 * (0.7 + 1.05) ** 2,
    "star": 5 * 1.15 * 0.52 * math.sin(math.pi / 5),
    "cross": 8 * 0.34 - 4 * 0.34**2,
    "ring": math.pi * (1 - 0.52**2),
}


@pytest.mark.parametrize("shape", AREAS)
@pytest.mark.parametrize("angle", [0.0, 1.0])
def test_area(shape, angle):
    mask = coverage(Thing(shape, "red", angle=angle), 0.5, 64)
    assert math.isclose(mask.sum() / 64**2, AREAS[shape] * SIZES[""] ** 2, rel_tol=0.025)  # half a sample at every edge


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_cut_off(shape):
    """The box that is looked at holds all of the shape, however it is turned."""
    for angle in np.linspace(0, 2, 9):
        thing = Thing(shape, "red", angle=angle)
        far_away = Thing(shape, "red", at=(3.0, 3.0), angle=angle)
        mask, large = coverage(thing, 0.5, 64), coverage(thing, 0.5, 128)
        assert math.isclose(mask.sum() * 4, large.sum(), rel_tol=0.03)
        assert mask[0].sum() == mask[:, 0].sum() == coverage(far_away, 0.5, 64).sum() == 0


def test_masks_account_for_the_picture():
    scene = Scene((Thing("square", "red", (0.45, 0.5)), Thing("circle", "blue", (0.55, 0.5))), "grass")
    frames, masks = render(scene, 2, 64)
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8
    assert masks.shape == (2, 2, 64, 64) and masks.dtype == np.float32
    colours = np.array([COLOURS["red"], COLOURS["blue"]])
    rest = (1 - masks.sum(1))[..., None] * 255 * background("grass", 64)
    expected = np.einsum("fnhw,nc->fhwc", masks, colours) + rest
    np.testing.assert_allclose(frames, expected, atol=0.51)  # rounding to 8 bits


@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_as_its_name_says(motion):
    """The centroid and area of the mask, from the first to the last frame."""
    masks = render(Scene((Thing("circle", "red", motion=motion),), "white"), 9, 64)[1][:, 0]
    at = (np.arange(64) + 0.5) / 64
    x, y = (masks.sum(axis) @ at / masks.sum((1, 2)) for axis in (1, 2))
    area = masks.sum((1, 2))
    moved = {"left": (-0.3, 0), "right": (0.3, 0), "up": (0, -0.3), "down": (0, 0.3)}.get(motion, (0, 0))
    np.testing.assert_allclose((x[-1] - x[0], y[-1] - y[0]), moved, atol=0.005)
    assert (np.ptp(x) > 0.2, np.ptp(y) > 0.2) == {
        "circle": (True, True),
        "bounce": (False, True),
    }.get(motion, (moved[0] != 0, moved[1] != 0))
    assert (area[-1] > 2 * area[0]) == (motion == "grow")


def test_spin_turns():
    frames = render(Scene((Thing("moon", "red", motion="spin"),), "white"), 3, 64)[0]
    assert np.abs(frames[2].astype(int) - frames[0, ::-1, ::-1]).mean() < 1  # half a turn
    assert np.abs(frames[1].astype(int) - frames[0]).mean() > 5


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_stated_colours_of_backgrounds(name):
    assert np.abs(255 * background(name, 64).mean((0, 1)) - MEAN_COLOURS[name]).max() < 12


@pytest.mark.parametrize("style", STYLES)
def test_styles(style):
    """Every style changes the picture, no mask, and is the same every time."""
    plain = Scene((Thing("heart", "yellow"),), "white")
    (frames, masks), (again, _), (before, before_masks) = (
        render(scene, 2, 64) for scene in (edit(plain, style=style), edit(plain, style=style), plain)
    )
    np.testing.assert_array_equal(frames, again)
    np.testing.assert_array_equal(masks, before_masks)
    changed = np.abs(frames.astype(int) - before).mean()
    assert (changed == 0) == (style == "plain") and (changed > 1) == (style != "plain")
    if style == "pixel art":
        np.testing.assert_array_equal(frames, frames[:, ::4, ::4].repeat(4, 1).repeat(4, 2))
    if style == "sketch":
        assert (frames.max(-1) == frames.min(-1)).all()


def test_pixel_art_needs_whole_blocks():
    with pytest.raises(ValueError, match="multiple of 16"):
        render(Scene((Thing("heart", "red"),), "white", "pixel art"), 1, 60)


def test_random_scene_renders_the_same_twice():
    one, other = (render(random_scene(np.random.default_rng(5)), 3, 48)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
