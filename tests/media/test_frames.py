"""Frames one at a time, and several clips together."""

import re
import weakref

import numpy as np
import pytest

from tests.media.videos import LOSSLESS, make, noise, numbered
from vrwkv_jax.media.frames import check_lengths, read_frames, read_together
from vrwkv_jax.media.video import read_video
from vrwkv_jax.system.errors import UserError


def test_frames_are_those_of_read_video(tmp_path):
    pictures = noise(4, 24, 40, 3)
    path = make(tmp_path / "clip.mov", pictures, **LOSSLESS)
    np.testing.assert_array_equal(list(read_frames(path)), pictures)
    np.testing.assert_array_equal(list(read_frames(path)), read_video(path, frames=4, width=40, height=24))


def test_odd_sizes_and_pixels_that_are_not_square(tmp_path):
    odd = make(tmp_path / "odd.mov", noise(2, 17, 31, 3), **LOSSLESS)
    assert {frame.shape for frame in read_frames(odd)} == {(17, 31, 3)}
    wide = make(tmp_path / "wide.mp4", numbered(2), "libx264", "yuv420p", pixel_aspect=2)
    assert {frame.shape for frame in read_frames(wide)} == {(48, 128, 3)}


def test_no_more_than_a_few_frames_are_in_memory(tmp_path):
    path = make(tmp_path / "clip.mov", numbered(30, 16, 16), **LOSSLESS)
    seen, most = [], 0
    for frame in read_frames(path):
        seen.append(weakref.ref(frame))
        most = max(most, sum(reference() is not None for reference in seen))
    assert len(seen) == 30 and most <= 2


def test_together(tmp_path):
    one, other = noise(3, 8, 8, 3), noise(3, 8, 8, 3, seed=1)
    paths = [make(tmp_path / f"{n}.mov", clip, **LOSSLESS) for n, clip in enumerate((one, other))]
    assert check_lengths(paths) == 3
    np.testing.assert_array_equal(list(read_together(paths)), np.stack([one, other], axis=1))


@pytest.mark.parametrize("frames", [(5, 3), (3, 5)])
def test_other_lengths(tmp_path, frames):
    paths = [make(tmp_path / f"{n}.mov", noise(n, 8, 8, 3), **LOSSLESS) for n in frames]
    with pytest.raises(
        UserError, match=re.escape(f"{frames[1]}.mov has {frames[1]} frames and {paths[0]} {frames[0]}")
    ):
        check_lengths(paths)
    with pytest.raises(UserError, match=r"3\.mov ends after 3 frames and .*5\.mov goes on: give a clip and its edit"):
        list(read_together(paths))


def test_other_sizes(tmp_path):
    paths = [make(tmp_path / f"{n}.mov", noise(2, 8, n, 3), **LOSSLESS) for n in (8, 9)]
    with pytest.raises(UserError, match=r"9\.mov is 9x8 and .*8\.mov is 8x8: scale one of them"):
        list(read_together(paths))


def test_what_is_no_clip(tmp_path):
    (tmp_path / "text.mp4").write_text("no clip")
    for path, message in (
        (tmp_path / "none.mp4", "is not there"),
        (tmp_path / "text.mp4", "cannot be read as a video"),
    ):
        with pytest.raises(UserError, match=message):
            list(read_frames(path))
