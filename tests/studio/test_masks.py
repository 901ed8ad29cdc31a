"""Drawn masks are what ``--mask`` understands of them."""

import numpy as np
import pytest

from vrwkv_jax.media.mask import Meaning, read_mask
from vrwkv_jax.studio.masks import drawn_mask, save_drawn_mask
from vrwkv_jax.system.errors import UserError

WIDTH, HEIGHT = 24, 16


def layer(where, scale: int = 1, colour=(255, 0, 0), alpha: int = 255) -> np.ndarray:
    pixels = np.zeros((scale * HEIGHT, scale * WIDTH, 4), np.uint8)
    pixels[where] = (*colour, alpha)
    return pixels


def value(*layers: np.ndarray) -> dict:
    """As gr.ImageEditor gives it: the frame below, the strokes, and both."""
    frame = np.full((HEIGHT, WIDTH, 4), 200, np.uint8)
    return {"background": frame, "layers": list(layers), "composite": frame}


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_what_is_painted_may_change(scale, tmp_path):
    """Black strokes, too, and what has been erased is not."""
    upper, left = np.s_[: scale * 4, :], np.s_[:, : scale * 8]
    first = layer(upper, scale, colour=(0, 0, 0))
    first[:, scale * 16 :] = 0
    save_drawn_mask(value(first, layer(left, scale)), tmp_path / "m.png", width=WIDTH, height=HEIGHT)
    mask = read_mask(tmp_path / "m.png", frames=3, width=WIDTH, height=HEIGHT)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:4, :16] = expected[:, :8] = True
    assert mask.meaning is Meaning.BRIGHT
    np.testing.assert_array_equal(mask.places, np.stack([expected] * 3))


def test_faint_borders_of_a_stroke_do_not_count():
    strokes = layer(np.s_[:, :12])
    strokes[:, 12] = (255, 0, 0, 127)
    strokes[:, 13] = (255, 0, 0, 128)
    found = drawn_mask(value(strokes), width=WIDTH, height=HEIGHT)
    assert found.any(axis=0).tolist() == [True] * 12 + [False, True] + [False] * 10


def test_all_of_it_may_be_painted(tmp_path):
    save_drawn_mask(value(layer(np.s_[:, :])), tmp_path / "m.png", width=WIDTH, height=HEIGHT)
    assert read_mask(tmp_path / "m.png", frames=1, width=WIDTH, height=HEIGHT).places.all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "nothing is painted"),
        (value(), "nothing is painted"),
        ({"background": None, "layers": None, "composite": None}, "nothing is painted"),
        (value(layer(np.s_[:2, :2], alpha=20)), "nothing is painted"),
        (value(layer(np.s_[:1, :1], scale=20)), "smaller than a pixel"),
        (value(np.full((30, 30, 4), 255, np.uint8)), "painted on 30x30 pixels, and the clip has 24x16"),
    ],
)
def test_what_makes_no_mask_is_said_and_nothing_written(given, said, tmp_path):
    with pytest.raises(UserError, match=said):
        save_drawn_mask(given, tmp_path / "m.png", width=WIDTH, height=HEIGHT)
    assert not list(tmp_path.iterdir())


def test_layers_without_alpha_are_refused():
    with pytest.raises(ValueError, match="RGBA"):
        drawn_mask(value(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), width=WIDTH, height=HEIGHT)
