"""The matcher against renders of which everything is known."""

import math

import numpy as np
import pytest

from vrwkv_jax.evaluation.match import match, nearest_background
from vrwkv_jax.world import Scene, Thing, random_scene, render_frame
from vrwkv_jax.world.drawing import background
from vrwkv_jax.world.scene import BACKGROUNDS


def noisy(picture, rng):
    return np.clip(np.round(picture + rng.normal(0, 8, picture.shape)), 0, 255).astype(np.uint8)


def test_every_noisy_render_is_recognised():
    rng = np.random.default_rng(1)
    for _ in range(25):
        scene, along = random_scene(rng, things=1), rng.random()
        scene, thing = Scene(scene.things, scene.background), scene.things[0]
        found = match(noisy(render_frame(scene, along)[0], rng), angle=thing.pose(along)[3])
        assert (found.shape, found.colour, found.background) == (thing.shape, thing.colour, scene.background)


@pytest.mark.parametrize("shape", ["circle", "moon", "triangle"])
def test_foreground_is_the_mask(shape):
    picture, masks = render_frame(Scene((Thing(shape, "red", (0.4, 0.55)),), "sky"), 0.5)
    found = match(picture)
    mask = masks[0] > 0.5
    assert (found.foreground & mask).sum() / (found.foreground | mask).sum() > 0.85
    at = (np.arange(64) + 0.5) / 64
    centroid = masks[0].sum(0) @ at / masks[0].sum(), masks[0].sum(1) @ at / masks[0].sum()
    assert math.dist(found.at, centroid) < 0.5 / 64


def test_wrong_pictures_do_not_pass():
    """Half a circle is none, a blend of colours is another colour, an empty picture shows nothing."""
    whole = render_frame(Scene((Thing("circle", "red"),), "white"), 0.5)[0]
    half = whole.copy()
    half[:, 32:] = 240
    assert match(whole).shape == "circle" and match(half).shape != "circle"
    assert match(half).error > 5 * match(whole).error
    bluish = np.where(whole == (220, 40, 40), (120, 40, 180), whole).astype(np.uint8)
    assert match(bluish).colour == "purple"
    nothing = match(np.full((64, 64, 3), 240, np.uint8))
    assert (nothing.shape, nothing.colour, nothing.background) == (None, None, "white")
    assert math.isnan(nothing.at[0]) and nothing.error == math.inf


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds(name):
    picture = np.round(255 * background(name, 64)).astype(np.uint8)
    assert nearest_background(noisy(picture, np.random.default_rng(0))) == name


def test_specks_are_no_foreground():
    picture = render_frame(Scene((Thing("star", "blue"),), "sand"), 0.5)[0].copy()
    clean = match(picture).foreground
    picture[3:5, 3:5] = 0
    np.testing.assert_array_equal(match(picture).foreground, clean)
