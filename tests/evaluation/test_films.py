"""Scores of films against clips of which the result is known."""

import numpy as np
import pytest

from vrwkv_jax.evaluation.films import precision_and_recall, score_film
from vrwkv_jax.world import Scene, Thing
from vrwkv_jax.world.film import Film, Shot, edit_film

SIZE = 48
FILM = Film(
    (
        Shot(Scene((Thing("square", "red", motion="right"),), "sky", camera="pan left"), 9),
        Shot(Scene((Thing("square", "red", (0.4, 0.6), motion="circle"),), "sky", camera="zoom out"), 8),
    )
)
BLUE = edit_film(FILM, colour="purple")


def drawn(film: Film) -> np.ndarray:
    return np.stack([picture for picture, _ in film.pictures(SIZE)])


def score(clip, target=BLUE, kind="colour", joins=(4, 9, 13)):
    return score_film(lambda start, stop: clip[start:stop], FILM, target, kind, size=SIZE, joins=joins)


def test_the_truth_is_perfect():
    found = score(drawn(BLUE))
    assert found.in_place == 1 and found.path_error < 0.5 and found.flicker == 1 and found.drift == pytest.approx(0)
    assert found.psnr == found.unchanged_psnr == pytest.approx(68.13, abs=0.01)
    assert found.warp_error < 2.0  # of moving pixels
    assert found.seam_index == pytest.approx(1, abs=0.3)


def test_the_source_is_no_edit():
    found = score(drawn(FILM))
    assert found.in_place == 0 and found.path_error < 0.5 and found.psnr < 25
    assert found.unchanged_psnr == pytest.approx(68.13, abs=0.01)


def test_figures_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    truth = drawn(BLUE)
    noise = rng.normal(0, 1, truth.shape) * np.linspace(2, 12, len(truth))[:, None, None, None]
    clip = np.clip(np.round(truth + noise), 0, 255).astype(np.uint8)
    found, difference = score(clip), clip.astype(float) - truth
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / np.square(difference).mean()))
    by_frame = np.sqrt(np.square(difference).mean((1, 2, 3)))
    assert found.drift == pytest.approx(1000 * np.polyfit(range(17), by_frame, 1)[0])
    own, true = (
        sum(np.abs(np.diff(part.astype(float), 2, axis=0)).sum() for part in (c[:9], c[9:])) for c in (clip, truth)
    )
    assert found.flicker == pytest.approx(own / true, rel=1e-5)


def test_a_jump_at_joins_is_a_seam():
    clip = drawn(BLUE).astype(int)
    clip[4:9] += 6
    clip[13:] += 6
    clip = np.clip(clip, 0, 255).astype(np.uint8)
    assert score(clip).seam_index > 3
    assert score(clip, joins=(3, 12)).seam_index < 1.2  # the same film, joined elsewhere
    assert score(clip, joins=(9,)).seam_index is None  # a cut is no seam


def test_a_thing_that_is_moved_is_off_its_path():
    clip = np.roll(drawn(BLUE), 5, axis=2)
    clip[:, :, :5] = clip[:, :, 5:6]
    assert score(clip).path_error == pytest.approx(5, abs=1.2)
    empty = np.stack([picture for picture, _ in edit_film(FILM, background="sky").pictures(SIZE)])
    empty[:] = (140, 190, 240)
    assert score(empty).path_error > 3


@pytest.mark.parametrize(("kind", "change"), [("shape", "star"), ("background", "grass"), ("background", "gravel")])
def test_other_kinds(kind, change):
    target = edit_film(FILM, **{kind: change})
    found = score(drawn(target), target, kind)
    assert found.in_place == 1 and found.unchanged_psnr > 60
    assert (found.psnr is None) == (change == "gravel") == (found.path_error is None)


def test_keyframes_against_cuts():
    assert precision_and_recall([0, 9], FILM.starts) == (1.0, 1.0)
    assert precision_and_recall([0, 4, 9, 12], FILM.starts) == (pytest.approx(1 / 3), 1.0)
    assert precision_and_recall([0], FILM.starts) == (None, 0.0)
    assert precision_and_recall([0, 3], [0]) == (0.0, None)
