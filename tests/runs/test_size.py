"""Clips are edited in their proportions unless both sides are given; a line says so."""

import re
from fractions import Fraction

import numpy as np
import pytest

from tests.media.videos import make
from vrwkv_jax.config import TuneConfig, parse_tune_config
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.runs.size import in_words, sized


def circle(height, width, aspect=1.0):
    """A disc in the middle that is round where a pixel is ``aspect`` times as wide as high; half as high as all."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - width / 2) * aspect) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
    return np.broadcast_to(np.where(inside, 235, 20)[None, ..., None], (2, height, width, 3)).astype(np.uint8)


def parsed(video, *flags):
    return parse_tune_config(["--model", "sd", "--video", str(video), "--prompt", "x", *flags]).clip


@pytest.mark.parametrize(
    ("flags", "size", "words"),
    [
        ([], (680, 384), "680 x 384, whole"),
        (["--width", "320"], (320, 176), r"320 x 176; 2% of the picture is cut off, at top and bottom"),
        (["--height", "120"], (216, 120), r"216 x 120; 1% of the picture is cut off, at top and bottom"),
        (["--width", "256", "--height", "256"], (256, 256), "256 x 256; 44% of the picture is cut off, at left and"),
        (["--width", "256", "--height", "256", "--fit", "stretch"], (256, 256), "256 x 256, stretched .* by 78%"),
    ],
)
def test_the_size_of_a_clip(tmp_path, flags, size, words):
    write_video(tmp_path / "clip.mp4", circle(180, 320), 10)
    clip = sized(parsed(tmp_path / "clip.mp4", "--frames", "1", *flags))
    assert (clip.width, clip.height) == size
    line = in_words(clip)
    assert line.startswith(f"{tmp_path / 'clip.mp4'} is edited at ") and re.search(words, line)
    frame = read_video(clip.video, **clip.reading)[0, ..., 0] > 128
    assert frame.shape == size[::-1]
    across, down = (int(np.any(frame, axis=axis).sum()) for axis in (0, 1))
    if clip.fit == "crop":
        assert across == pytest.approx(down, abs=2)  # still round
    else:
        assert down / across == pytest.approx(16 / 9, rel=0.03)


def test_pixels_that_are_not_square_count(tmp_path):
    """720 x 576 pixels of PAL, 16:15 wide, are 4:3."""
    path = make(tmp_path / "pal.mov", circle(288, 360, 16 / 15), "png", "rgb24", pixel_aspect=Fraction(16, 15))
    clip = sized(parsed(path, "--frames", "1"))
    assert clip.width / clip.height == pytest.approx(4 / 3, rel=0.01)
    frame = read_video(path, **clip.reading)[0, ..., 0] > 128
    across, down = (int(np.any(frame, axis=axis).sum()) for axis in (0, 1))
    assert across == pytest.approx(down, abs=2)


def test_the_built_in_model_has_its_own_size(tmp_path):
    clip = parse_tune_config(["--video", str(tmp_path / "none.mp4"), "--prompt", "x"]).clip
    assert sized(clip) == clip and (clip.width, clip.height) == (64, 64)


def test_the_built_in_clip_is_square():
    clip = sized(TuneConfig().clip)
    assert (clip.width, clip.height) == (512, 512)
