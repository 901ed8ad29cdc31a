"""Clips in other forms than mp4: the frames, their times, equal bytes, bounded memory, and what a format can't hold."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.media.videos import noise, psnr, smooth
from vrwkv_jax.media import webp
from vrwkv_jax.media.formats import clip_writer, write_clip
from vrwkv_jax.media.frames import read_frames
from vrwkv_jax.media.opened import opened
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.system.errors import UserError

FORMATS = ["mp4", "gif", "webp", "png"]
UNEVEN = Timing(5, np.cumsum([0, *np.random.default_rng(0).uniform(0.03, 0.3, 18)]))


def content(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name if path.is_dir() else "": file.read_bytes() for file in files}


def pillow(path):
    """Pillow's reading: frames, and for how many milliseconds each is shown."""
    with Image.open(path) as picture:
        frames, lengths = [], []
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")))
            lengths.append(picture.info["duration"])
        return np.stack(frames), lengths


@pytest.mark.parametrize("timing", [12.5, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("format", FORMATS)
def test_chunks_make_the_bytes_that_the_whole_makes(tmp_path, format, timing):
    frames = smooth(19, 33, 47)
    write_clip(tmp_path / "whole", frames, timing, format)
    for size in (1, 7):
        with clip_writer(tmp_path / f"chunks-{size}", timing, format) as write:
            for begin in range(0, 19, size):
                write(frames[begin : begin + size])
        assert content(tmp_path / f"chunks-{size}") == content(tmp_path / "whole")


def test_png_and_webp_keep_every_pixel(tmp_path):
    frames = noise(5, 33, 47, 3)
    write_clip(tmp_path / "clip.webp", frames, 10, "webp")
    np.testing.assert_array_equal(pillow(tmp_path / "clip.webp")[0], frames)
    write_clip(tmp_path / "clip", frames, 10, "png")
    assert sorted(content(tmp_path / "clip")) == [f"{index:05}.png" for index in range(5)]
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "clip" / f"{index:05}.png")), frame)
    np.testing.assert_array_equal(np.stack(list(read_frames(tmp_path / "clip"))), frames)


def test_a_gif_looks_like_the_clip(tmp_path):
    """Grey ramps of 200 levels, which a palette of 255 colours has; dither moves each by less than four of 255."""
    ramp = np.linspace(20, 219, 200).astype(np.uint8)
    frames = np.stack([np.roll(np.tile(ramp, (24, 1)), 9 * index, axis=1) for index in range(6)])[..., None].repeat(
        3, 3
    )
    write_clip(tmp_path / "clip.gif", frames, 10, "gif")
    assert np.abs(pillow(tmp_path / "clip.gif")[0] - frames.astype(float)).max() <= 6
    assert psnr(frames, pillow(tmp_path / "clip.gif")[0]) > 40


def test_a_gif_stands_still_where_its_clip_does(tmp_path):
    """One palette, and dither that depends on the place alone."""
    frames = smooth(6, 48, 64)
    frames[:, :24] = frames[0, :24]
    write_clip(tmp_path / "clip.gif", frames, 10, "gif")
    shown = pillow(tmp_path / "clip.gif")[0]
    assert np.ptp(shown[:, :24], axis=0).max() == 0 and np.ptp(shown[:, 24:], axis=0).max() > 50


@pytest.mark.parametrize(("format", "tick"), [("gif", 10), ("webp", 1)])
@pytest.mark.parametrize("timing", [Timing(7), Timing(30), UNEVEN], ids=["7", "30", "uneven"])
def test_times_are_kept_with_the_rounding_carried_along(tmp_path, format, tick, timing):
    """Each frame begins within half a tick of its time, however many are before it: 1/30 s is 33.3 ms."""
    frames = smooth(19, 16, 16)
    write_clip(tmp_path / "clip", frames, timing, format)
    lengths = pillow(tmp_path / "clip")[1]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    expected = 1000 * (np.arange(19) / timing.fps if timing.times is None else timing.times)
    np.testing.assert_allclose(begins[:-1], expected, atol=tick / 2 + 1e-6)
    assert begins[-1] - begins[-2] == pytest.approx(1000 / timing.fps, abs=tick / 2)
    with opened(tmp_path / "clip") as file:
        assert len({len(lengths), file.length(), 19}) == 1


@pytest.mark.parametrize("fps", [50, 60])
def test_a_gif_that_would_be_too_fast_is_slower_and_says_so(tmp_path, fps):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_clip(tmp_path / "clip.gif", smooth(30, 16, 16), fps, "gif")
    assert set(pillow(tmp_path / "clip.gif")[1]) == {20}
    assert len(told) == (fps == 60)
    if told:
        assert "clip.gif plays slower than its source, for it can show 50 frames per second" in str(told[0].message)


@pytest.mark.parametrize("format", FORMATS)
def test_one_frame_is_a_clip(tmp_path, format):
    write_clip(tmp_path / "clip", smooth(1, 17, 31), 10, format)
    (frame,) = read_frames(tmp_path / "clip")
    assert frame.shape == ((18, 32, 3) if format == "mp4" else (17, 31, 3))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("written", [0, 3, 5])
def test_each_frame_has_its_time(tmp_path, format, written):
    timing = Timing(8, np.arange(4) / 8) if written else Timing(8)
    with (
        pytest.raises(ValueError, match=r"at least one frame|times for 4 frames only|3 of 4"),
        clip_writer(tmp_path / "clip", timing, format) as write,
    ):
        write(smooth(written, 16, 16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_leaves_what_was_there(tmp_path, format):
    write_clip(tmp_path / "clip", smooth(2, 16, 16), 8, format)
    before = content(tmp_path / "clip")
    with pytest.raises(KeyboardInterrupt), clip_writer(tmp_path / "clip", 8, format) as write:
        write(smooth(3, 16, 24))
        raise KeyboardInterrupt
    assert content(tmp_path / "clip") == before and len(list(tmp_path.iterdir())) == 1
    write_clip(tmp_path / "clip", smooth(1, 16, 16), 8, format)
    assert content(tmp_path / "clip") != before


def test_only_folders_of_frames_are_replaced(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "00000.png").touch()
    (tmp_path / "clip" / "mine.png").touch()
    with pytest.raises(UserError, match="clip is there already"):
        write_clip(tmp_path / "clip", smooth(1, 16, 16), 8, "png")
    assert (tmp_path / "clip" / "mine.png").exists()


def test_a_webp_has_limits(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"clip\.webp would be 16384x16, and a WebP has 16383 pixels on a side at most"):
        write_clip(tmp_path / "clip.webp", smooth(1, 16, 16384), 8, "webp")
    monkeypatch.setattr(webp, "MOST_BYTES", 5000)
    with pytest.raises(UserError, match=r"clip\.webp becomes longer than the 4 GiB of a WebP"):
        write_clip(tmp_path / "clip.webp", noise(40, 64, 64, 3), 8, "webp")  # the file grows by 256 KB each time
    assert list(tmp_path.iterdir()) == []


def test_crf_weighs_size_against_likeness(tmp_path):
    frames = smooth(6, 64, 64)
    sizes, likeness = [], []
    for crf in (0, 16, 51):
        write_clip(tmp_path / "clip.mp4", frames, 8, "mp4", crf)
        sizes.append((tmp_path / "clip.mp4").stat().st_size)
        likeness.append(psnr(frames, np.stack(list(read_frames(tmp_path / "clip.mp4")))))
    assert sizes[0] > sizes[1] > sizes[2] and likeness[0] > likeness[1] > likeness[2] + 6


MEMORY = """
import resource, sys
import numpy as np
from vrwkv_jax.media.formats import clip_writer
frames = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3)).astype(np.uint8) // 32 * 32
with clip_writer(sys.argv[1], 10, sys.argv[2]) as write:
    for _ in range(int(sys.argv[3])):
        write(frames)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("format", ["gif", "webp"])
def test_memory_does_not_grow_with_the_clip(tmp_path, format):
    """512 frames of 48 KB are 25 MB as they come; the peak, in KB, moves by less than 10 MB from 64 of them on."""
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", MEMORY, tmp_path / f"{n}", format, str(n)], text=True))
        for n in (8, 64)
    ]
    assert peaks[1] - peaks[0] < 10_000
