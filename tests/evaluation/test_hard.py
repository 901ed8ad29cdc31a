"""Scores in the hard world, of clips of which it is known how wrong they are."""

from dataclasses import replace

import numpy as np
import pytest

from vrwkv_jax.evaluation.agreement import agreement, warp_errors
from vrwkv_jax.evaluation.hard import score
from vrwkv_jax.evaluation.texture import looks_like, looks_like_background
from vrwkv_jax.world import Scene, Thing, edit, random_hard_scene, render, render_frame

THING = Thing("square", "red", motion="circle", material="wooden", pattern=3, size="large ", deformation="wobble")
SOURCE = Scene((THING,), "planks", pattern=5, camera="pan left", light="dimming")
EDITS = {
    "colour": {"colour": "blue"},
    "shape": {"shape": "stick"},
    "background": {"background": "gravel"},
    "material": {"material": "speckled"},
}
FRAMES = 6


def clip(scene):
    return render(scene, FRAMES, 64)[0]


@pytest.mark.parametrize("kind", EDITS)
def test_the_true_edit(kind):
    target = edit(SOURCE, **EDITS[kind])
    s = score(clip(target), SOURCE, target, kind)
    assert s.right == 1
    assert (s.psnr is None) == (s.ssim is None) == (kind in ("material", "background"))
    assert s.unchanged_psnr > 50
    a = agreement(clip(target), SOURCE, target, kind)
    assert abs(a.drift) < 0.2
    assert a.warp_error < 4  # of resampling patterns
    assert 1 <= a.seams < 1.5


@pytest.mark.parametrize("kind", EDITS)
def test_no_edit_at_all(kind):
    s = score(clip(SOURCE), SOURCE, edit(SOURCE, **EDITS[kind]), kind)
    assert s.right == 0 and s.unchanged_psnr > 50


def test_another_pattern_in_every_frame():
    """Each frame shows what was asked for, and no two of them the same thing: only the warp error tells."""
    target = edit(SOURCE, material="speckled")
    frames = []
    for frame in range(FRAMES):
        thing = replace(target.things[0], pattern=100 + frame)
        frames.append(render_frame(replace(target, things=(thing,)), frame / (FRAMES - 1), 64)[0])
    assert score(np.stack(frames), SOURCE, target, "material").right >= 0.75
    consistent, independent = (agreement(c, SOURCE, target, "material") for c in (clip(target), np.stack(frames)))
    assert independent.warp_error > 1.5 * consistent.warp_error


def test_error_that_grows():
    target = edit(SOURCE, colour="blue")
    true = clip(target).astype(float)
    noise = np.random.default_rng(0).normal(size=true.shape) * np.arange(FRAMES)[:, None, None, None]
    noisy = np.clip(true + 4 * noise, 0, 255).astype(np.uint8)
    assert agreement(noisy, SOURCE, target, "colour").drift == pytest.approx(
        20, rel=0.1
    )  # 4 levels a frame; a little is lost at black and white


def test_a_cut_between_two_frames():
    target = edit(SOURCE, background="gravel")
    cut = np.concatenate([clip(target)[:3], clip(replace(target, pattern=77))[3:]])
    assert agreement(cut, SOURCE, target, "background").seams > 2


def test_light_is_no_error():
    """Nor is a place that was not seen before."""
    scene = Scene((replace(THING, motion="right", way=0.9, material=None),), "bricks", light="flickering")
    frames, masks = render(scene, FRAMES, 64)
    assert max(warp_errors(frames, scene, masks)) < 1.0  # rounding to 8 bits


def test_textures_are_told_apart():
    """Of true frames: nine of ten materials, nearly all backgrounds."""
    rng, materials, backgrounds = np.random.default_rng(3), [], []
    while len(materials) < 60:
        scene = replace(random_hard_scene(rng, things=1), light="steady")
        scene = replace(scene, things=(replace(scene.things[0], shape="circle", colour="cyan"),))
        along = rng.random()
        picture, masks = render_frame(scene, along, 64)
        found = looks_like(picture.astype(float), scene, along, masks[0])
        if found is not None:
            materials.append(found == (scene.things[0].material or "flat"))
        if len(backgrounds) < 6:
            backgrounds.append(looks_like_background(picture.astype(float), scene, along) == scene.background)
    assert np.mean(materials) > 0.8 and np.mean(backgrounds) == 1
