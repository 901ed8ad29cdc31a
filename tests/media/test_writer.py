"""What is written chunk by chunk: the same file as in one go, at any rate and at any times, whole or not there."""

import av
import numpy as np
import pytest

from tests.media.videos import indices, make, numbered, psnr, smooth
from vrwkv_jax.media.opened import opened
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.media.writer import Timing, video_writer
from vrwkv_jax.system.errors import UserError

SIZE = {"width": 64, "height": 48}


def written(path, frames, size, timing):
    with video_writer(path, timing) as write:
        for begin in range(0, len(frames), size):
            write(frames[begin : begin + size])
    return path


def times_of(path):
    with opened(path) as file:
        return [frame.time for frame in file.frames]


@pytest.mark.parametrize("timing", [12.5, Timing(5, np.arange(20) ** 1.3 / 7)])
def test_chunks_make_the_file_that_the_whole_makes(tmp_path, timing):
    frames = smooth(20, 63, 47)
    write_video(tmp_path / "whole.mp4", frames, timing)
    for size in (1, 7, 20):
        written(tmp_path / "chunks.mp4", frames, size, timing)
        assert (tmp_path / "chunks.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_times_survive(tmp_path):
    """To half a tick of 1/90000 s."""
    times = np.cumsum([0, *np.random.default_rng(0).uniform(0.001, 0.3, 29)])
    written(tmp_path / "clip.mp4", numbered(30), 7, Timing(30 / times[-1], times))
    np.testing.assert_allclose(times_of(tmp_path / "clip.mp4"), times, atol=0.51 / 90000)
    assert indices(read_video(tmp_path / "clip.mp4", frames=30, **SIZE)) == list(range(30))
    assert psnr(numbered(30), read_video(tmp_path / "clip.mp4", frames=30, **SIZE)) > 42


@pytest.mark.parametrize(("suffix", "tick"), [("mkv", 1e-3), ("mp4", 1 / 16000), ("webm", 1e-3)])
def test_what_is_read_with_its_times_is_written_with_them(tmp_path, suffix, tick):
    times = [0, 40, 90, 100, 250, 260, 400, 1500, 1510, 1600]
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = make(tmp_path / f"clip.{suffix}", numbered(10), codec, "yuv420p", times=times, options={"bf": "0"})
    reader = VideoReader(path, frames=8, start=1, **SIZE)
    with video_writer(tmp_path / "edit.mp4", reader.timing()) as write:
        for chunk in reader.chunks(3):
            write(chunk)
    np.testing.assert_allclose(times_of(tmp_path / "edit.mp4"), (np.array(times[1:9]) - 40) / 1000, atol=1e-5)
    assert indices(read_video(tmp_path / "edit.mp4", frames=8, **SIZE)) == list(range(1, 9))
    with av.open(str(tmp_path / "edit.mp4")) as container:
        (stream,) = container.streams
        assert float(stream.duration * stream.time_base) == pytest.approx(reader.seconds, abs=1e-3)


def test_times_closer_than_a_tick_stay_apart(tmp_path):
    written(tmp_path / "clip.mp4", numbered(4), 4, Timing(8, np.array([0, 1e-6, 2e-6, 0.5])))
    found = times_of(tmp_path / "clip.mp4")
    assert len(set(found)) == 4 and found[2] < 1e-4


@pytest.mark.parametrize("count", [2, 4])
def test_each_frame_has_its_time(tmp_path, count):
    with pytest.raises(ValueError, match=r"times for 3 frames only|2 of 3"):
        written(tmp_path / "clip.mp4", numbered(count), 4, Timing(8, np.arange(3) / 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_between_chunks_leaves_the_old_file(tmp_path, failure):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises(failure), video_writer(path, 8) as write:
        write(numbered(5))
        raise failure
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_no_frames_are_no_video(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"), video_writer(tmp_path / "clip.mp4", 8):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_makes_no_sense(tmp_path):
    with pytest.raises(UserError, match="fps 0 is not a frame rate"), video_writer(tmp_path / "clip.mp4", 0):
        pass
