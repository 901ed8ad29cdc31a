"""Which frames are read, where their pixels come from, and in which colours."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.videos import LOSSLESS, indices, make, noise, numbered, psnr, rotate_track
from vrwkv_jax.media.video import read_video, video_fps, write_video
from vrwkv_jax.system.errors import UserError

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("clip.mp4", "libx264", "yuv420p"),  # with B-frames: decoded in another order than shown
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.mkv", "ffv1", "yuv444p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.gif", "gif", "gray"),
    ],
)
def test_frames_are_exactly_those_asked_for(tmp_path, name, codec, pix_fmt):
    path = make(tmp_path / name, numbered(), codec, pix_fmt)
    clip = read_video(path, frames=7, start=5, stride=4, width=64, height=48)
    assert clip.shape == (7, 48, 64, 3) and clip.dtype == np.uint8
    assert indices(clip) == [5, 9, 13, 17, 21, 25, 29]
    assert indices(read_video(str(path), frames=30, width=16, height=8)) == list(range(30))


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("12:30 Ж.mp4", numbered(3))
    assert indices(read_video("12:30 Ж.mp4", frames=3, width=64, height=48)) == [0, 1, 2]


def test_variable_frame_rate_counts_frames_not_time(tmp_path):
    times = [0, 10, 500, 510, 520, 3000, 3001, 9000]
    path = make(tmp_path / "clip.mkv", numbered(8), "ffv1", "yuv444p", times=times)
    assert indices(read_video(path, frames=4, start=1, stride=2, width=64, height=48)) == [1, 3, 5, 7]


def test_decoding_stops_at_the_last_frame_needed(tmp_path):
    path = make(tmp_path / "clip.avi", noise(60, 48, 64, 3), "mjpeg", "yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert read_video(path, frames=20, width=64, height=48).min() < 50
    with pytest.raises(UserError, match=r"clip\.avi"):  # the second half is indeed unreadable
        read_video(path, frames=20, start=35, width=64, height=48)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"frames": 24, "start": 20, "stride": 2},
            "has 30 frames; start 20 with stride 2 and 24 frames needs 67: use at most 5 frames",
        ),
        (
            {"frames": 10, "start": 5, "stride": 3},
            "has 30 frames; start 5 with stride 3 and 10 frames needs 33: "
            "use at most 9 frames or a start of at most 2 or a stride of at most 2",
        ),
        (
            {"frames": 1, "start": 30},
            "has 30 frames; start 30 with stride 1 and 1 frame needs 31: use a start of at most 29",
        ),
        (
            {"frames": 31, "start": 40, "stride": 7},
            "has 30 frames; start 40 with stride 7 and 31 frames needs 251: "
            "use a longer video, or from the start at most 5 frames",
        ),
    ],
)
def test_a_short_video_says_what_it_would_hold(tmp_path, asked, sentence):
    path = make(tmp_path / "clip.mkv", numbered(), "ffv1", "yuv444p")
    with pytest.raises(UserError) as error:
        read_video(path, width=64, height=48, **asked)
    assert str(error.value) == f"{path} {sentence}"


def test_what_a_short_video_would_hold_is_the_most_it_holds(tmp_path):
    path = make(tmp_path / "clip.mkv", numbered(), "ffv1", "yuv444p")
    size = {"width": 64, "height": 48}
    assert indices(read_video(path, frames=9, start=5, stride=3, **size))[-1] == 29
    assert indices(read_video(path, frames=10, start=2, stride=3, **size))[-1] == 29
    assert indices(read_video(path, frames=10, start=5, stride=2, **size))[-1] == 23
    for frames, start, stride in [(10, 5, 3), (10, 3, 3)]:
        with pytest.raises(UserError):
            read_video(path, frames=frames, start=start, stride=stride, **size)


def test_a_crop_without_scaling_copies_pixels(tmp_path):
    pictures = noise(2, 33, 41, 3)
    path = make(tmp_path / "clip.mov", pictures[:, :24], **LOSSLESS)
    np.testing.assert_array_equal(read_video(path, frames=2, width=24, height=24), pictures[:, :24, 8:32])
    path = make(tmp_path / "tall.mov", pictures[:, :, :16], **LOSSLESS)
    np.testing.assert_array_equal(read_video(path, frames=2, width=16, height=16), pictures[:, 8:24, :16])


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(61, 101), (101, 61)])
@pytest.mark.parametrize("size", [(32, 32), (48, 16), (144, 120)])
def test_scaling_puts_each_point_where_it_belongs(tmp_path, fit, height, width, size):
    """On ramps, a scaled pixel holds the coordinates of its centre in the original."""
    ys, xs = np.mgrid[:height, :width]
    ramps = np.stack([2 * xs, 2 * ys, 0 * xs], axis=-1).astype(np.uint8)
    path = make(tmp_path / "clip.mov", ramps[None], **LOSSLESS)
    clip = read_video(path, frames=1, width=size[1], height=size[0], fit=fit)[0]

    for axis, length in ((0, height), (1, width)):
        scale = length / size[axis]
        if fit == "crop":
            scale = min(height / size[0], width / size[1])
        centres = (np.arange(size[axis]) + 0.5) * scale - 0.5 + (length - scale * size[axis]) / 2
        found = clip[..., 1 - axis].mean(axis=1 - axis) / 2
        # 0.3: rounding to 8 bits and the filter's ripple on a ramp. The outermost pixels lean on the border.
        inner = (centres > 3 + scale) & (centres < length - 4 - scale)
        assert inner.sum() > size[axis] / 3
        assert np.abs(found - centres)[inner].max() < 0.3


def test_shrinking_does_not_alias(tmp_path):
    stripes = np.zeros((1, 64, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255
    path = make(tmp_path / "clip.mov", stripes, **LOSSLESS)
    clip = read_video(path, frames=1, width=72, height=16, fit="stretch").astype(int)
    assert np.abs(clip[:, :, 2:-2] - 127).max() <= 8  # grey; point or bilinear sampling gives bands from 0 to 255


def test_pixels_that_are_not_square(tmp_path):
    pictures = noise(1, 32, 32, 3)
    path = make(tmp_path / "clip.mov", pictures, pixel_aspect=Fraction(2), **LOSSLESS)  # shown as 64x32
    clip = read_video(path, frames=1, width=64, height=32)
    square = make(tmp_path / "square.mov", pictures, **LOSSLESS)
    np.testing.assert_array_equal(clip, read_video(square, frames=1, width=64, height=32, fit="stretch"))


def test_rotation_is_honoured(tmp_path):
    path = tmp_path / "phone.mp4"
    write_video(path, noise(2, 4, 6, 3).repeat(8, axis=1).repeat(8, axis=2))
    lying = read_video(path, frames=2, width=48, height=32)
    rotate_track(path)
    np.testing.assert_array_equal(read_video(path, frames=2, width=32, height=48), np.rot90(lying, -1, axes=(1, 2)))


def test_rotation_turns_the_pixels_shape_too(tmp_path):
    path = make(tmp_path / "phone.mov", noise(1, 32, 32, 3), pixel_aspect=Fraction(2), **LOSSLESS)
    lying = read_video(path, frames=1, width=64, height=32)
    rotate_track(path)
    turned = read_video(path, frames=1, width=32, height=64)
    # 2: rows and columns are scaled one after the other, each rounded
    assert np.abs(turned.astype(int) - np.rot90(lying, -1, axes=(1, 2))).max() <= 2


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("code", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
def test_colours_follow_the_matrix_and_range_of_the_file(tmp_path, code, red, blue, full_range):
    """Y'CbCr by the formulas of BT.709 and BT.601, in and out."""
    rgb = noise(4, 4, 3).repeat(8, axis=0).repeat(8, axis=1)
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    planes = np.stack([luma, (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)])
    scale, offset = ((1, 1, 1), (0, 128, 128)) if full_range else ((219 / 255, 224 / 255, 224 / 255), (16, 128, 128))
    planes = (planes * np.reshape(scale, (3, 1, 1)) + np.reshape(offset, (3, 1, 1))).round().clip(0, 255)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = code
        stream.codec_context.color_range = 2 if full_range else 1
        frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv444p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = read_video(path, frames=1, width=32, height=32)[0]
    assert np.abs(clip.astype(int) - rgb).max() <= 3  # rounding three planes; a wrong matrix or range is off by 20


def test_a_real_clip(tmp_path):
    path = CLIPS / "car-turn.mp4"
    if not path.is_file():
        pytest.skip(f"the real clips are not in {CLIPS}")
    assert video_fps(path) == 10
    clip = read_video(path, frames=4, start=60, stride=6, width=256, height=256)
    write_video(tmp_path / "edit.mp4", clip, fps=video_fps(path) / 6)
    back = read_video(tmp_path / "edit.mp4", frames=4, width=256, height=256)
    assert psnr(clip, back) > 38
    with pytest.raises(UserError, match="has 80 frames; start 60 with stride 2 and 24 frames needs 107"):
        read_video(path, frames=24, start=60, stride=2, width=256, height=256)
