"""Clips that stay in their file: chunk by chunk the same frames, from any chunk on, with their times."""

import numpy as np
import pytest
from PIL import Image

from tests.media.test_folder import folder
from tests.media.videos import indices, make, noise, numbered, rotate_track, smooth
from vrwkv_jax.media.opened import Frame
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video, video_fps, write_video
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.system.errors import UserError

SIZE = {"width": 64, "height": 48}


def turned(path):
    write_video(path, smooth(23, 64, 48))
    rotate_track(path)
    return path


def interlaced(path):
    return make(path, smooth(23, 48, 64), "libx264", "yuv422p", options={"x264-params": "bff=1"})


def animation(path):
    first, *others = map(Image.fromarray, smooth(23, 48, 64))
    first.save(path, save_all=True, append_images=others, lossless=True, duration=[40, 90] * 11 + [40])
    return path


CLIPS = {
    "clip.mp4": lambda path: make(path, smooth(23, 90, 120), "libx264", "yuv420p"),  # with B-frames
    "clip.webm": lambda path: make(path, smooth(23, 48, 64), "libvpx-vp9", "yuv420p"),
    "clip.mkv": lambda path: make(path, smooth(23, 48, 64), "ffv1", "yuv444p", times=list(range(0, 23 * 37, 37))),
    "turned.mp4": turned,
    "interlaced.mkv": interlaced,
    "clip.webp": animation,
    "folder": lambda path: folder(path, [f"{index}.png" for index in range(23)], smooth(23, 48, 64)),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(
    "which", [{"frames": 11, "start": 1, "stride": 2}, {"frames": "all"}, {"frames": "0.3s", "start": "0.1s"}]
)
def test_chunks_are_the_clip(tmp_path, name, which):
    path = CLIPS[name](tmp_path / name)
    whole = read_video(path, **which, **SIZE)
    reader = VideoReader(path, **which, **SIZE)
    assert len(reader) == len(whole) > 2
    for size in (1, 4, 64):
        chunks = list(reader.chunks(size))
        assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        np.testing.assert_array_equal(np.concatenate(chunks), whole)
        again = [*reader.chunks(size, first=len(chunks) - 1)]
        np.testing.assert_array_equal(again, chunks[-1:])
        assert list(reader.chunks(size, first=len(chunks))) == []


def test_frames_that_are_not_asked_for_stay_unseen(tmp_path, monkeypatch):
    """Resuming decodes a file up to the chunk, which is quick, and brings only the rest to its size and colours."""
    path = make(tmp_path / "clip.mp4", numbered(30), "libx264", "yuv420p")
    reader = VideoReader(path, frames=20, start=2, **SIZE)
    seen, read = [], Frame.pixels.func
    monkeypatch.setattr(Frame.pixels, "func", lambda frame: seen.append(round(10 * frame.time)) or read(frame))
    chunks = reader.chunks(6, first=2)
    assert indices(next(chunks)) == seen == list(range(14, 20))
    assert indices(next(chunks)) == [20, 21] and seen[6:] == [20, 21]
    VideoReader(path, frames=20, start=2, **SIZE)
    assert len(seen) == 8


def test_times_and_lengths(tmp_path):
    times = [0, 40, 90, 100, 250, 260, 400]
    path = make(tmp_path / "clip.mkv", numbered(7), "ffv1", "yuv444p", times=times)
    reader = VideoReader(path, frames=4, start=2, **SIZE)
    np.testing.assert_allclose(reader.times, [0, 0.01, 0.16, 0.17], atol=1e-12)
    assert reader.seconds == pytest.approx(0.17 * 4 / 3)
    timing = reader.timing()
    assert timing.times is reader.times and timing.fps == pytest.approx(3 / 0.17)
    assert VideoReader(path, frames=2, start=1, **SIZE).timing().fps == pytest.approx(20)


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "libx264"), ("clip.mkv", "libx264"), ("clip.webm", "libvpx")])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_constant_rate_stays_one(tmp_path, name, codec, stride):
    """Although Matroska rounds times to milliseconds."""
    path = make(tmp_path / name, numbered(30), codec, "yuv420p", rate=24)
    timing = VideoReader(path, frames="all", stride=stride, **SIZE).timing()
    assert timing.times is None and timing.fps == pytest.approx(24 / stride, rel=1e-3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animations_keep_their_times(tmp_path, suffix):
    first, *others = map(Image.fromarray, numbered(5))
    first.save(tmp_path / f"clip.{suffix}", save_all=True, append_images=others, duration=[100, 300, 200, 500, 100])
    reader = VideoReader(tmp_path / f"clip.{suffix}", frames="all", start=1, **SIZE)
    timing = reader.timing()
    assert timing.times.tolist() == pytest.approx([0, 0.3, 0.5, 1.0]) and timing.sound is None
    assert len(VideoReader(tmp_path / f"clip.{suffix}", frames="0.6s", start="0.4s", **SIZE)) == 2


def test_a_picture_is_a_clip_of_one_frame(tmp_path):
    Image.fromarray(noise(48, 64, 3)).save(tmp_path / "clip.png")
    assert VideoReader(tmp_path / "clip.png", frames=1, **SIZE).timing() == Timing(25)


def test_one_frame_is_shown_as_long_as_in_its_file(tmp_path):
    path = make(tmp_path / "clip.mp4", numbered(30), "libx264", "yuv420p", rate=24)
    reader = VideoReader(path, frames=1, start=7, **SIZE)
    assert reader.seconds == pytest.approx(1 / 24) and reader.timing().fps == pytest.approx(24)


def test_a_rate_that_is_given_is_the_rate(tmp_path):
    path = make(tmp_path / "clip.mkv", numbered(4), "ffv1", "yuv444p", times=[0, 10, 500, 510])
    assert VideoReader(path, frames=4, **SIZE).timing(12).times is None
    write_video(tmp_path / "edit.mp4", numbered(4), VideoReader(path, frames=4, **SIZE).timing(12))
    assert video_fps(tmp_path / "edit.mp4") == 12


def test_a_rate_at_which_nothing_is_written(tmp_path):
    path = make(tmp_path / "clip.mkv", numbered(2), "ffv1", "yuv444p", times=[0, 500_000])
    with pytest.raises(
        UserError, match=r"^fps 0\.002 is not a frame rate .*: it is what .*clip\.mkv with stride 1 has; choose another"
    ):
        VideoReader(path, frames=2, **SIZE).timing()


def test_a_file_that_has_changed_meanwhile(tmp_path):
    path = make(tmp_path / "clip.mp4", numbered(20), "libx264", "yuv420p")
    reader = VideoReader(path, frames="all", **SIZE)
    make(path, numbered(10), "libx264", "yuv420p")
    with pytest.raises(UserError, match=r"clip\.mp4 has changed while it was read: start again$"):
        list(reader.chunks(6))


def test_transparency_is_told_once(tmp_path):
    picture = np.full((48, 64, 4), 255, np.uint8)
    picture[:20, :, 3] = 0
    path = folder(tmp_path / "clip", ["1.png", "2.png", "3.png"], [picture] * 3)
    with pytest.warns(UserWarning) as said:
        list(VideoReader(path, frames=3, **SIZE).chunks(2))
    assert [str(warning.message) for warning in said] == [f"{path} is transparent in parts: they are shown on white"]


def test_the_digest_is_of_the_file_and_the_choice(tmp_path):
    path = make(tmp_path / "clip.mp4", noise(8, 48, 64, 3), "libx264", "yuv420p")
    pictures = folder(tmp_path / "folder", ["1.png", "2.png", "3.png"])

    def digest(path=path, **which):
        return VideoReader(path, **{"frames": 2, **SIZE} | which).digest()

    others = [digest(frames=3), digest(start=1), digest(stride=2), digest(width=32), digest(fit="stretch")]
    assert len({digest(), digest(pictures), *others}) == 7
    moved = path.rename(tmp_path / "moved.mp4")
    assert digest(moved) == VideoReader(moved, frames=2, **SIZE).digest()
    before = digest(moved), digest(pictures)
    make(moved, noise(8, 48, 64, 3, seed=1), "libx264", "yuv420p")
    (pictures / "1.png").write_bytes((pictures / "2.png").read_bytes())
    assert digest(moved) != before[0] and digest(pictures) != before[1]
