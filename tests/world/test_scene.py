"""Scenes as data: captions, edits, and what training never sees."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from vrwkv_jax.world import Scene, Thing, caption, edit, is_held_out, random_scene
from vrwkv_jax.world.scene import BACKGROUNDS, COLOURS, MEAN_COLOURS, SHAPES, STYLES, stands_out

STAR = Thing("star", "orange", size="small ", motion="left")


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (Scene((Thing("circle", "red"),), "grass"), "a red circle on grass"),
        (Scene((STAR,), "night", "pixel art"), "a small orange star moving left at night, pixel art"),
        (Scene((replace(STAR, size=""),), "sky"), "an orange star moving left in front of a blue sky"),
        (
            Scene((Thing("ring", "blue", motion="spin"), STAR), "sand"),
            "a blue ring spinning and a small orange star moving left on sand",
        ),
    ],
)
def test_caption(scene, words):
    assert caption(scene) == words


def test_caption_without_motion():
    assert caption(Scene((STAR,), "white"), motion=False) == "a small orange star on a white background"


def test_edit_keeps_the_motion():
    scene = Scene((STAR, Thing("ring", "blue")), "sand")
    changed = edit(scene, colour="red", shape="moon", background="night", style="sketch")
    assert changed == Scene((replace(STAR, colour="red", shape="moon"), Thing("ring", "blue")), "night", "sketch")
    assert edit(scene) == scene


def test_vocabulary_is_large_enough():
    assert (len(SHAPES), len(COLOURS), len(BACKGROUNDS), len(STYLES)) == (8, 11, 9, 4)
    assert set(MEAN_COLOURS) == set(BACKGROUNDS)
    for background in BACKGROUNDS:
        assert sum(stands_out(colour, background) for colour in COLOURS) >= 7, background


def test_same_seed_same_scenes():
    one, other = (np.random.default_rng(3) for _ in range(2))
    assert [random_scene(one) for _ in range(5)] == [random_scene(other) for _ in range(5)]


@pytest.mark.parametrize("held_out", [False, True])
def test_random_scenes(held_out):
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, held_out=held_out) for _ in range(300)]
    assert {is_held_out(scene) for scene in scenes} == {held_out}
    assert {len(scene.things) for scene in scenes} == {1, 2}
    assert {scene.style for scene in scenes} == set(STYLES)
    for scene in scenes:
        for thing in scene.things:
            assert stands_out(thing.colour, scene.background)
            for along in np.linspace(0, 1, 17):
                x, y, radius, _ = thing.pose(along)
                assert radius <= min(x, y, 1 - x, 1 - y) + 1e-9, scene


def test_a_tenth_is_held_out():
    combinations = itertools.product(SHAPES, COLOURS, BACKGROUNDS)
    held_out = [is_held_out(Scene((Thing(shape, colour),), background)) for shape, colour, background in combinations]
    assert math.isclose(np.mean(held_out), 0.1, abs_tol=0.01)
