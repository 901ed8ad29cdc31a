"""Masks of a run, made on the page: where they lie, and how they look over the clip."""

import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax.config import ClipConfig, TuneConfig, save_yaml
from vrwkv_jax.media.overlay import TINT
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.runs import own
from vrwkv_jax.studio.gallery import StoredRun, stored_run
from vrwkv_jax.studio.run_masks import canvas, keep_drawing, mask_of, masks_of, over_source, word_mask_command
from vrwkv_jax.system.errors import UserError


@pytest.fixture
def run(places) -> StoredRun:
    """A run whose clip began late in its video, at a stride: its masks have a frame for each of its own."""
    path = places.runs / "star"
    path.mkdir()
    own.mark(path, own.TUNING)
    config = TuneConfig(prompt="a star", clip=ClipConfig("x.mp4", frames=3, start=50, stride=7, width=24, height=16))
    save_yaml(config, path / "config.yaml")
    write_video(path / "source.mp4", clip())
    return stored_run(places, "star")


def painted(left: int, right: int) -> dict:
    layer = np.zeros((32, 48, 4), np.uint8)
    layer[:, left:right] = 255
    return {"layers": [layer]}


def test_a_drawing_is_kept_and_shown_over_the_clip(places, run):
    first, second = keep_drawing(places, run, painted(0, 24)), keep_drawing(places, run, painted(0, 48))
    assert [path.name for path in (first, second)] == ["drawn.png", "drawn-2.png"]
    assert {*masks_of(places, run)} == {first, second} and mask_of(places, run, "drawn.png") == first
    source = read_video(run.source, frames=3, width=24, height=16).astype(int)
    shown = read_video(over_source(run, first, places.cache), frames=3, width=24, height=16).astype(int)
    assert np.abs(shown[:, :, 14:] - source[:, :, 14:]).mean() < 4  # twice compressed
    assert np.abs(shown[:, :, :10] - (source[:, :, :10] + TINT) / 2).mean() < 12  # and at half the resolution in colour
    assert over_source(run, first, places.cache) != over_source(run, second, places.cache)


def test_nothing_drawn(places, run):
    with pytest.raises(UserError, match="nothing is painted"):
        keep_drawing(places, run, {"layers": []})
    assert masks_of(places, run) == []


def test_the_command_for_words(places, run):
    words, file = word_mask_command(places, run, ["Star", "../x"])
    assert file == places.uploads / "masks/star/star-x.mp4"
    assert words == ["mask", str(run.directory.path), "--words", "Star", "../x", "--output", str(file)]
    with pytest.raises(UserError, match="no word is chosen"):
        word_mask_command(places, run, [])


@pytest.mark.parametrize("name", ["../drawn.png", "/etc/passwd", "star_over_source.mp4", "other.png"])
def test_masks_are_looked_up(places, run, name):
    folder = keep_drawing(places, run, painted(0, 9)).parent
    write_video(folder / "star_over_source.mp4", clip())
    save_png(places.uploads / "drawn.png", clip()[0])
    with pytest.raises(UserError, match="there is no mask"):
        mask_of(places, run, name)
    assert mask_of(places, run, "") is None


def test_the_canvas_has_the_proportions_of_the_clip(run):
    assert canvas(run).shape == (256, 384, 3)
