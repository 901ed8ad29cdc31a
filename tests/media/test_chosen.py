"""Frames are chosen by their numbers or by their times, alike in all that reads clips."""

import numpy as np
import pytest

from tests.media.videos import indices, make, numbered
from vrwkv_jax.media.chosen import Choice
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video
from vrwkv_jax.system.errors import UserError

SIZE = {"width": 64, "height": 48}
JITTER = [0, 33, 67, 100, 133, 700, 710, 733, 767, 800, 833, 2000]  # milliseconds


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """30 frames, 10 in a second."""
    return make(tmp_path_factory.mktemp("even") / "clip.mp4", numbered(30), "libx264", "yuv420p")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """12 frames at the times of ``JITTER``."""
    path = tmp_path_factory.mktemp("uneven") / "clip.mkv"
    return make(path, numbered(12), "ffv1", "yuv444p", times=JITTER)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"frames": 4, "start": "0.5s"}, [5, 6, 7, 8]),
        ({"frames": 4, "start": "0.51s"}, [6, 7, 8, 9]),
        ({"frames": "0.5s", "start": 3}, [3, 4, 5, 6, 7]),
        ({"frames": "0.5s"}, [0, 1, 2, 3, 4]),
        ({"frames": ".05s"}, [0]),
        ({"frames": "3s", "stride": 7}, [0, 7, 14, 21, 28]),
        ({"frames": "all", "start": 26}, [26, 27, 28, 29]),
        ({"frames": "all", "start": "2.6s", "stride": "0.2s"}, [26, 28]),
        ({"frames": 4, "stride": "0.25s"}, [0, 3, 5, 8]),
        ({"frames": 3, "stride": "0.01s"}, [0, 1, 2]),
        ({"frames": "1s", "start": "1s", "stride": "0.5s"}, [10, 15]),
    ],
)
def test_times_of_an_even_clip(even, which, expected):
    assert indices(read_video(even, **which, **SIZE)) == expected


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"frames": 2, "start": "0.5s"}, [5, 6]),
        ({"frames": "all", "stride": "0.1s"}, [0, 3, 5, 9, 11]),
        ({"frames": "0.1s", "start": "0.7s"}, [5, 6, 7, 8]),
        ({"frames": "all", "start": "0.9s"}, [11]),
        ({"frames": "all", "start": 1, "stride": 5}, [1, 6, 11]),
        ({"frames": "1.9s", "start": "0.1s"}, list(range(3, 11))),
    ],
)
def test_times_of_an_uneven_clip(uneven, which, expected):
    assert indices(read_video(uneven, **which, **SIZE)) == expected
    reader = VideoReader(uneven, **which, **SIZE)
    np.testing.assert_allclose(reader.times, (np.array(JITTER)[expected] - JITTER[expected[0]]) / 1000, atol=1e-9)


def test_times_are_counted_from_the_first_frame(tmp_path):
    """Recordings of broadcasts begin at any hour."""
    path = make(tmp_path / "clip.mkv", numbered(5), "ffv1", "yuv444p", times=[5000, 5100, 5200, 5300, 5400])
    assert indices(read_video(path, frames="0.2s", start="0.1s", **SIZE)) == [1, 2]


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001, 59.94, 25, 8])
@pytest.mark.parametrize("rounding", [1e-9, 1e-3])
def test_a_stride_of_some_frames_takes_just_them(fps, rounding):
    """However a file rounds its times."""
    choice = Choice("all", 0, f"{3 / fps:.6f}s")
    times = np.round(np.arange(300) / fps / rounding) * rounding
    assert [index for index, time in enumerate(times) if choice.takes(time)] == list(range(0, 300, 3))


@pytest.mark.parametrize(
    ("which", "sentence"),
    [
        (
            {"frames": 4, "start": "3s"},
            "has 30 frames and lasts 3 s, so that nothing is left from start 3s on: use less than 3s",
        ),
        (
            {"frames": "1s", "start": 30},
            "has 30 frames and lasts 3 s, so that nothing is left from start 30 on: use at most 29",
        ),
        (
            {"frames": "2s", "start": "1.5s"},
            "lasts 1.5 s from start 1.5s on, less than frames 2s: use that or less, or all",
        ),
        (
            {"frames": 9, "start": "2s", "stride": "0.3s"},
            "has 4 frames from start 2s on with stride 0.3s: use that or less, a smaller start or a smaller stride",
        ),
        ({"frames": 31, "start": 0}, "has 30 frames; start 0 with stride 1 and 31 frames needs 31: use at most 30"),
    ],
)
@pytest.mark.parametrize("read", [read_video, VideoReader])
def test_what_is_not_there_is_said(even, which, sentence, read):
    with pytest.raises(UserError) as error:
        read(even, **which, **SIZE)
    assert str(error.value).startswith(f"{even} {sentence}")


def test_what_a_short_clip_says_can_be_asked_for(even):
    assert len(read_video(even, frames="1.5s", start="1.5s", **SIZE)) == 15
    assert len(read_video(even, frames=4, start="2s", stride="0.3s", **SIZE)) == 4
