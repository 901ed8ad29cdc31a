"""Films are their shots, one after the other, and their edits change what is named alone."""

from itertools import pairwise

import numpy as np

from vrwkv_jax.world import Scene, Thing, edit, is_held_out, render
from vrwkv_jax.world.film import Film, Shot, edit_film, random_film, random_montage
from vrwkv_jax.world.hard import is_seen

SCENES = (
    Scene((Thing("star", "red", motion="right"),), "grass", camera="pan left"),
    Scene((Thing("star", "red", (0.3, 0.6), motion="spin"),), "grass", camera="zoom in"),
)
FILM = Film((Shot(SCENES[0], 5), Shot(SCENES[1], 1), Shot(SCENES[1], 4)))


def test_frames_are_those_of_the_shots():
    whole = np.concatenate([render(shot.scene, shot.frames, 32)[0] for shot in FILM.shots])
    pictures = np.stack([picture for picture, _ in FILM.pictures(32)])
    np.testing.assert_array_equal(pictures, whole)
    assert (FILM.frames, FILM.starts, FILM.caption) == (10, (0, 5, 6), "a red star on grass")


def test_any_part_can_be_drawn():
    whole = [picture for picture, _ in FILM.pictures(16)]
    for start, stop in ((0, 3), (4, 7), (6, 10), (9, 10), (3, 3)):
        part = [picture for picture, _ in FILM.pictures(16, start, stop)]
        assert len(part) == stop - start
        assert all(np.array_equal(*pair) for pair in zip(part, whole[start:stop], strict=True))


def test_edits_change_every_shot():
    edited = edit_film(FILM, colour="blue")
    assert [shot.scene for shot in edited.shots] == [edit(shot.scene, colour="blue") for shot in FILM.shots]
    assert (edited.starts, edited.caption) == (FILM.starts, "a blue star on grass")


def test_random_films():
    for seed in range(20):
        film = random_film(np.random.default_rng(seed), 1000)
        assert film.frames == 1000
        assert all(60 <= shot.frames <= 240 for shot in film.shots[:-1])
        words = {(s.scene.things[0].shape, s.scene.things[0].colour, s.scene.background) for s in film.shots}
        assert len(words) == 1
        cameras = [shot.scene.camera for shot in film.shots]
        assert all(one != other for one, other in pairwise(cameras))
        assert all(is_held_out(shot.scene) and is_seen(shot.scene) for shot in film.shots)
    assert random_film(np.random.default_rng(3), 500) == random_film(np.random.default_rng(3), 500)
    assert random_film(np.random.default_rng(3), 9, shot_frames=(2, 3)).starts[1] in (2, 3)


def test_montages_have_shots_of_unrelated_scenes():
    film = random_montage(np.random.default_rng(1), 300, shot_frames=(20, 40))
    assert film.frames == 300 and all(20 <= shot.frames <= 40 for shot in film.shots[:-1])
    assert len({shot.scene.background for shot in film.shots}) > 4
    assert len({shot.scene.things[0].colour for shot in film.shots}) > 4
