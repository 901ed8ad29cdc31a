"""The hard world: patterns that travel with their things, and where everything was a frame before."""

import hashlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.edit_quality.tasks import tasks
from vrwkv_jax.world import Scene, Thing, caption, edit, is_held_out, random_hard_scene, render, render_frame
from vrwkv_jax.world.drawing import inside
from vrwkv_jax.world.motion import came_from, in_world, light, on_thing, view
from vrwkv_jax.world.scene import (
    ALL_BACKGROUNDS,
    ALL_SHAPES,
    CAMERAS,
    COLOURS,
    DEFORMATIONS,
    LIGHTS,
    MATERIALS,
    MEAN_COLOURS_TEXTURED,
    MOTIONS,
    TEXTURED_BACKGROUNDS,
    THIN_SHAPES,
    stands_out,
)
from vrwkv_jax.world.textures import material, textured_background

SCENES = [random_hard_scene(np.random.default_rng(seed)) for seed in range(12)]
PLACES = np.meshgrid(np.linspace(0.05, 0.95, 7), np.linspace(0.05, 0.95, 5))


def test_the_plain_world_is_as_it_was():
    """Figures of its 24 clips are compared over time: not one bit of them may change."""
    digest = hashlib.sha256()
    for work in tasks(24, 0):
        for task in work:
            for scene in (task.source, task.target):
                digest.update(caption(scene).encode())
                digest.update(render(scene, 3, 64)[0].tobytes())
    assert digest.hexdigest() == "4a62773fa22bb60919add7d360d5b0d9a360184328d5c0e567ebebe3b2e1508b"


def test_captions():
    star = Thing("star", "orange", size="large ", material="wooden", motion="left", way=0.8)
    scene = Scene((star, Thing("hoop", "red", material="furry")), "bricks", camera="pan left", light="shadow")
    words = "a large wooden orange star moving left and a furry red hoop in front of a brick wall"
    assert caption(scene) == words
    assert caption(edit(scene, material="striped", background="gravel")) == (
        "a large striped orange star moving left and a furry red hoop on gravel"
    )
    assert edit(scene, colour="blue").camera == "pan left"


@pytest.mark.parametrize("deformation", DEFORMATIONS)
@pytest.mark.parametrize("motion", ["circle", "spin", "grow"])
def test_places_on_a_thing_and_in_the_world(deformation, motion):
    thing = Thing("star", "red", (0.4, 0.6), motion=motion, angle=0.3, deformation=deformation)
    for along in (0.0, 0.3, 1.0):
        back = in_world(thing, along, *on_thing(thing, along, *PLACES))
        np.testing.assert_allclose(back, PLACES, atol=1e-12)


@pytest.mark.parametrize("camera", CAMERAS)
def test_what_the_camera_sees(camera):
    for along in (0.0, 0.4, 1.0):
        seen = view(camera, along)
        np.testing.assert_allclose(seen.to_world(*seen.to_picture(*PLACES)), PLACES, atol=1e-12)
    first, last = view(camera, 0.0), view(camera, 1.0)
    assert (first == last) == (camera == "still")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.camera}, {scene.things[0].deformation}")
def test_what_is_seen_travels(scene):
    """A frame is what the one before it shows there where it came from, but for edges and light."""
    size, before, now = 128, 0.45, 0.5
    steady = replace(scene, light="steady")
    (old, old_masks), (new, masks) = (render_frame(steady, along, size) for along in (before, now))
    at = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(at, at)
    compared = 0
    for owner in (None, *range(len(scene.things))):
        mask = masks.sum(0) < 0.01 if owner is None else masks[owner] > 0.99
        column, row = (np.round(size * c - 0.5).astype(int) for c in came_from(steady, owner, before, now, x, y))
        inside_picture = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        column, row = np.clip(column, 0, size - 1), np.clip(row, 0, size - 1)
        was_seen = old_masks.sum(0) < 0.01 if owner is None else old_masks[owner] > 0.99
        both = mask & inside_picture & was_seen[row, column]
        if both.sum() > 50:
            compared += both.sum()
            difference = np.abs(new[both].astype(float) - old[row, column][both])
            assert difference.mean() < 6  # half a pixel of rounding, on patterns with flanks of 30 levels a pixel
    assert compared > size * size / 4


@pytest.mark.parametrize("name", MATERIALS)
def test_a_pattern_does_not_stand_still_where_its_thing_moves(name):
    """What the test above would say of one that did: it differs from frame to frame at the thing's places."""
    thing = Thing("star", "red", (0.5, 0.5), size="large ", material=name, motion="right", way=0.8)
    scene, size = Scene((thing,), "gravel"), 128
    (old, (before,)), (new, (mask,)) = (render_frame(scene, along, size) for along in (0.45, 0.5))
    both = (mask > 0.99) & (before > 0.99)
    assert both.sum() > 50 and np.abs(new[both].astype(float) - old[both]).mean() > 6


@pytest.mark.parametrize("name", MATERIALS)
@pytest.mark.parametrize("colour", ["red", "black", "white"])
def test_materials_have_the_colour_they_are_said_to_have(name, colour):
    """And many patterns, each the same every time."""
    u, v = np.meshgrid(np.linspace(-0.8, 0.8, 40), np.linspace(-0.8, 0.8, 40))
    drawn = np.stack([material(name, pattern, COLOURS[colour], u, v) for pattern in range(20)])
    away = np.linalg.norm(drawn - COLOURS[colour], axis=-1)
    assert 0.55 < np.mean(away < away.max() / 2) < 0.95
    np.testing.assert_array_equal(drawn[3], material(name, 3, COLOURS[colour], u, v))
    assert all(np.abs(one - other).mean() > 5 for one, other in itertools.pairwise(drawn))


@pytest.mark.parametrize("name", TEXTURED_BACKGROUNDS)
def test_stated_colours_of_backgrounds(name):
    x, y = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64))
    means = [textured_background(name, pattern, x, y).mean((0, 1)) for pattern in range(20)]
    np.testing.assert_allclose(np.mean(means, 0), MEAN_COLOURS_TEXTURED[name], atol=3)
    assert sum(stands_out(colour, name) for colour in COLOURS) >= 6


@pytest.mark.parametrize("shape", THIN_SHAPES)
def test_thin_shapes_are_thin(shape):
    at = np.linspace(-1.2, 1.2, 400)
    share = inside(shape, *np.meshgrid(at, at)).sum() * (2.4 / 400) ** 2 / math.pi
    assert 0.1 < share < 0.4  # of a disc


@pytest.mark.parametrize("name", LIGHTS)
def test_light_only_takes_away(name):
    """So that nothing is brighter than a picture can be."""
    shares = np.stack([light(name, along, *PLACES) for along in np.linspace(0, 1, 33)])
    assert shares.min() > 0.3 and shares.max() <= 1
    assert (np.ptp(shares) == 0) == (name == "steady")


def test_random_scenes_have_all_there_is():
    scenes = [random_hard_scene(np.random.default_rng(seed), held_out=seed % 2 == 0) for seed in range(400)]
    things = [thing for scene in scenes for thing in scene.things]
    assert {scene.camera for scene in scenes} == set(CAMERAS) and {scene.light for scene in scenes} == set(LIGHTS)
    assert {scene.background for scene in scenes} == set(ALL_BACKGROUNDS)
    assert {thing.shape for thing in things} == set(ALL_SHAPES) and {t.motion for t in things} == set(MOTIONS)
    assert {thing.material for thing in things} == {None, *MATERIALS}
    assert {thing.deformation for thing in things} == set(DEFORMATIONS)
    assert {len(scene.things) for scene in scenes} == {1, 2}
    assert all(is_held_out(scene) == (seed % 2 == 0) for seed, scene in enumerate(scenes))


def test_things_leave_the_picture_and_pass_in_front_of_each_other():
    areas = [render(scene, 5, 32)[1].sum((2, 3)) for scene in SCENES]
    assert any(area[0, 0] > 20 and area[:, 0].min() < 0.3 * area[0, 0] for area in areas)
    covered = [
        render(replace(s, things=s.things[:1]), 5, 32)[1][:, 0].sum() - a[:, 0].sum()
        for s, a in zip(SCENES, areas, strict=True)
    ]
    assert max(covered) > 20
