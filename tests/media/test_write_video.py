"""What is written reads back, plays in browsers, and is whole or not there."""

import struct

import av
import numpy as np
import pytest

from tests.media.videos import psnr, smooth
from vrwkv_jax.media.video import read_video, video_fps, write_video
from vrwkv_jax.system.errors import UserError


def test_what_is_written_reads_back(tmp_path):
    frames = smooth(12, 96, 128)
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    back = read_video(tmp_path / "clip.mp4", frames=12, width=128, height=96)
    assert psnr(frames, back) > 42  # 43.9 found; 38.2 with chroma off by half a pixel
    assert np.abs((frames.astype(float) - back).mean(axis=(0, 1, 2))).max() < 0.5  # a scaler that truncates: 1.3
    with pytest.raises(UserError, match="has 12 frames"):
        read_video(tmp_path / "clip.mp4", frames=13, width=128, height=96)


def test_chroma_is_where_h264_expects_it(tmp_path):
    """Red and blue waves along x: a chroma sample is that of its even column, not of the mean of two columns."""
    columns = np.arange(128)
    red, green, blue = 127.5 + 100 * np.sin(columns / 4), 0 * columns + 127.5, 127.5 + 100 * np.cos(columns / 5)
    rows = np.stack([red, green, blue], axis=-1).round().astype(np.uint8)
    write_video(tmp_path / "clip.mp4", np.broadcast_to(rows, (2, 64, 128, 3)))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        planes = next(container.decode(video=0)).to_ndarray().reshape(-1)
    cb, cr = planes[64 * 128 :].reshape(2, 32, 64).astype(float).mean(axis=1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    for found, colour, weight in ((cb, blue, 0.0722), (cr, red, 0.2126)):
        exact = 128 + (colour - luma) / (2 - 2 * weight) * 224 / 255
        between = (exact[::2] + exact[1::2]) / 2
        assert np.abs(found - exact[::2]).mean() < 0.4 * np.abs(found - between).mean()


@pytest.mark.parametrize(("height", "width"), [(33, 47), (32, 47), (33, 48), (1, 1)])
def test_odd_sizes_grow_by_a_copied_border(tmp_path, height, width):
    frames = smooth(3, height, width)
    write_video(tmp_path / "clip.mp4", frames)
    grown = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        decoded = list(container.decode(video=0))
    assert [(frame.height, frame.width) for frame in decoded] == [grown.shape[1:3]] * 3
    luma = np.stack([frame.to_ndarray()[: grown.shape[1]] for frame in decoded])
    assert psnr(luma, 16 + grown @ [0.2126, 0.7152, 0.0722] * 219 / 255) > 40  # CRF 16 leaves 44; a black border, 21


def boxes(content):
    """The names of an mp4's outermost boxes, in order."""
    names, at = [], 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        names.append(name.decode())
        at += size
    return names


def test_the_file_is_one_that_browsers_play(tmp_path):
    write_video(tmp_path / "clip.mp4", smooth(5, 32, 48), fps=8)
    names = boxes((tmp_path / "clip.mp4").read_bytes())
    assert names.index("moov") < names.index("mdat")  # plays while it loads
    with av.open(str(tmp_path / "clip.mp4")) as container:
        coder = container.streams.video[0].codec_context
        assert (coder.name, coder.pix_fmt) == ("h264", "yuv420p")
        assert (coder.colorspace, coder.color_primaries, coder.color_trc, coder.color_range) == (1, 1, 1, 1)


def test_equal_frames_make_equal_bytes(tmp_path):
    contents = set()
    for _ in range(6):  # x264's macroblock tree would make about four different files of these frames
        write_video(tmp_path / "clip.mp4", smooth(8, 320, 576), fps=12.5)
        contents.add((tmp_path / "clip.mp4").read_bytes())
    (content,) = contents
    # Neither the machine's number of cores nor FFmpeg's version goes into the file.
    assert b"threads=4 " in content and b"Lavf" not in content


@pytest.mark.parametrize("fps", [8, 0.5, 12.5, 30000 / 1001, 240])
def test_the_rate_survives(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", smooth(6, 16, 16), fps=fps)
    assert video_fps(tmp_path / "clip.mp4") == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e-9])
def test_a_rate_that_makes_no_sense(tmp_path, fps):
    with pytest.raises(UserError, match="is not a frame rate"):
        write_video(tmp_path / "clip.mp4", smooth(2, 16, 16), fps=fps)


def test_the_rate_of_no_video(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        video_fps(tmp_path / "clip.mp4")


def test_no_frames_are_no_video(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "clip.mp4", smooth(1, 16, 16)[:0])
    assert list(tmp_path.iterdir()) == []


class Broken(np.ndarray):
    """Frames of which the third cannot be had."""

    def __iter__(self):
        yield from np.asarray(self)[:2]
        raise RuntimeError("no third frame")


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no third frame"):
        write_video(path, smooth(5, 32, 48).view(Broken))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder_is_made(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        write_video(tmp_path / "missing" / "clip.mp4", smooth(2, 16, 16))
    assert list(tmp_path.iterdir()) == []
