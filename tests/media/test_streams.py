"""Of several streams the film is taken; what phones and editors write around it is honoured."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.media.test_masks import moving
from tests.media.videos import LOSSLESS, indices, make, noise, numbered, smooth
from vrwkv_jax.media.mask import read_mask
from vrwkv_jax.media.video import proportion, read_video, video_fps, write_video
from vrwkv_jax.system.errors import UserError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def streams(path, *described):
    """A file with a video stream for each ``(size, colour, frames, disposition)``."""
    with av.open(str(path), "w") as container:
        added = []
        for size, colour, count, disposition in described:
            cover = disposition == Disposition.attached_pic
            stream = container.add_stream("mjpeg" if cover else "libx264", rate=10)
            stream.width = stream.height = size
            stream.pix_fmt = "yuvj420p" if cover else "yuv420p"
            stream.disposition = disposition
            added.append((stream, colour, count))
        for stream, colour, count in added:
            picture = np.full((stream.height, stream.width, 3), colour, np.uint8)
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return path


PREVIEW, RENDITION = (32, RED, 1, Disposition(0)), (32, RED, 8, Disposition(0))
FILM, UNMARKED = (64, GREEN, 8, Disposition.default), (64, GREEN, 8, Disposition(0))
COVER = (128, RED, 1, Disposition.attached_pic)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    "described",
    [(PREVIEW, FILM), (RENDITION, FILM), ((128, RED, 8, Disposition(0)), FILM), (FILM, RENDITION), (COVER, FILM)],
)
def test_the_film_is_taken(tmp_path, suffix, described):
    path = streams(tmp_path / f"clip.{suffix}", *described)
    assert (abs(read_video(path, frames=8, width=32, height=32).astype(int) - GREEN) < 10).all()


def test_without_a_mark_the_largest_is_the_film(tmp_path):
    path = streams(tmp_path / "clip.ts", RENDITION, UNMARKED)  # a transport stream has no marks
    assert (abs(read_video(path, frames=8, width=32, height=32).astype(int) - GREEN) < 10).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tiff"])
def test_animations_come_with_their_frames(tmp_path, suffix):
    first, *others = map(Image.fromarray, numbered(8))
    options = {"webp": {"lossless": True}, "avif": {"quality": 95}}.get(suffix, {})
    path = tmp_path / f"clip.{suffix}"
    first.save(path, save_all=True, append_images=others, **options, duration=200)
    assert indices(read_video(path, frames=3, start=1, stride=3, width=64, height=48)) == [1, 4, 7]
    assert video_fps(path) == (25 if suffix == "tiff" else 5)  # pages have no clock
    with pytest.raises(UserError, match="has 8 frames"):
        read_video(path, frames=9, width=64, height=48)


def test_transparent_animations_are_shown_on_white(tmp_path):
    frames = [Image.fromarray(np.dstack([0 * f, f[..., 0]])) for f in moving(3)]  # black on nothing
    options = {"lossless": True, "kmax": 1}  # key frames, for the encoder may mix others with black itself
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], **options, duration=100)
    with pytest.warns(UserWarning, match="on white"):
        clip = read_video(tmp_path / "clip.webp", frames=3, width=64, height=32)
    np.testing.assert_array_equal(clip, 255 - moving(3))


def test_a_picture_is_a_clip_of_one_frame(tmp_path):
    Image.fromarray(noise(48, 64, 3)).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_video(tmp_path / "p.png", frames=1, width=64, height=48)[0], noise(48, 64, 3))
    with pytest.raises(UserError, match=r"has 1 frame; .* use at most 1 frame"):
        read_video(tmp_path / "p.png", frames=2, width=64, height=48)


@pytest.mark.parametrize(
    ("numbers", "levels"),
    [
        (np.array([[0, 32896, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[False, True, True]]), [0, 255, 255]),
    ],
)
def test_grey_pictures_of_all_kinds(tmp_path, numbers, levels):
    Image.fromarray(numbers.repeat(8, axis=0).repeat(8, axis=1)).save(tmp_path / "p.tiff")
    clip = read_video(tmp_path / "p.tiff", frames=1, width=24, height=8)
    assert clip[0, 4, 4::8].tolist() == [[level] * 3 for level in levels]


def test_pages_of_several_sizes_are_no_frames(tmp_path):
    picture = Image.fromarray(numbered(1)[0])
    picture.save(tmp_path / "p.tiff", save_all=True, append_images=[picture.resize((8, 8))])
    with pytest.raises(UserError, match="has 1 frame;"):
        read_video(tmp_path / "p.tiff", frames=2, width=64, height=48)


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path):
    """As phones trim: the first frames stay in the file, and the track's edit list starts after them."""
    path = make(tmp_path / "clip.mp4", numbered(12), "libx264", "yuv420p", options={"bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 8
    count, length, media_time = struct.unpack(">Iii", content[at : at + 12])
    assert (count, media_time) == (1, 0)
    with av.open(str(path)) as container:
        tick = round(1 / (10 * container.streams.video[0].time_base))  # of a frame
    content[at : at + 12] = struct.pack(">Iii", 1, length * 8 // 12, 4 * tick)
    path.write_bytes(content)
    assert indices(read_video(path, frames=8, width=64, height=48)) == list(range(4, 12))
    with pytest.raises(UserError, match="has 8 frames"):
        read_video(path, frames=9, width=64, height=48)


def test_interlaced_clips_come_without_combs(tmp_path):
    """A bar moves 4 pixels from half-picture to half-picture: as they stand, rows differ from their neighbours'."""
    height, width = 64, 96
    fields = np.zeros((16, height, width, 3), np.uint8)
    for index, field in enumerate(fields):
        field[:, 4 * index : 4 * index + 24] = 255
    woven = fields[1::2].copy()
    woven[:, 1::2] = fields[::2, 1::2]  # the lower half-picture comes first
    options = {"crf": "1", "x264-params": "bff=1"}
    path = make(tmp_path / "clip.mkv", woven, "libx264", "yuv422p", options=options)
    clip = read_video(path, frames=8, width=width, height=height).astype(float)
    assert np.abs(np.diff(woven[2:6].astype(float), axis=1)).mean() > 20
    assert np.abs(np.diff(clip[2:6], axis=1)).mean() < 1
    assert np.abs(clip[2:6] - fields[4:12:2]).mean() < 2  # the moment of the first half-picture; of the second: 21


@pytest.mark.parametrize(("height", "width"), [(33, 47), (35, 50), (1, 1), (2, 3)])
def test_odd_sizes_with_half_the_colours(tmp_path, height, width):
    path = make(tmp_path / "clip.mkv", smooth(2, height, width), "ffv1", "yuv420p")
    assert read_video(path, frames=2, width=48, height=32).shape == (2, 32, 48, 3)
    assert proportion(path) == pytest.approx(width / height)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p12le", "gbrp10le", "gray16le", "gbrpf32le"])
def test_deep_pixels(tmp_path, pix_fmt):
    codec = "exr" if pix_fmt == "gbrpf32le" else "ffv1"
    path = make(tmp_path / ("clip.mkv" if codec == "ffv1" else "clip.exr"), numbered(1), codec, pix_fmt)
    assert indices(read_video(path, frames=1, width=64, height=48)) == [0]


def test_one_frame_has_a_rate_that_can_be_written(tmp_path):
    write_video(tmp_path / "one.mp4", numbered(1), fps=12)
    assert video_fps(tmp_path / "one.mp4") == 12
    make(tmp_path / "one.mkv", numbered(1), "ffv1", "yuv444p")
    assert 0.01 <= video_fps(tmp_path / "one.mkv") <= 1000


def test_the_rate_of_a_variable_rate_is_its_mean(tmp_path):
    times = [0, 33, 66, 500, 533, 2000, 2033, 3500]
    path = make(tmp_path / "clip.mp4", numbered(8), "libx264", "yuv444p", times=times, options={"bf": "0"})
    assert 1.5 < video_fps(path) < 3  # 8 frames in about 3.5 seconds


def test_a_codec_that_nobody_knows(tmp_path):
    path = make(tmp_path / "clip.mkv", numbered(2), "ffv1", "yuv444p")
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_XXX1"))
    with pytest.raises(UserError, match=r"clip\.mkv (is coded in a way that FFmpeg does not know|cannot be read)"):
        read_video(path, frames=1, width=64, height=48)


def test_names_in_messages_do_not_command_the_terminal(tmp_path):
    for content in (None, b"no clip"):
        path = tmp_path / "a\x1b[2J\nb.mp4"
        if content:
            path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read_video(path, frames=1, width=64, height=48)
        assert r"a\x1b[2J\nb.mp4" in str(error.value) and "\x1b" not in str(error.value)


def test_sizes_that_change_within_a_clip(tmp_path):
    """As of two recordings put behind each other."""
    parts = []
    for name, (height, width) in {"a": (48, 64), "b": (96, 128)}.items():
        make(tmp_path / f"{name}.h264", numbered(3, height, width), "libx264", "yuv420p", options={"bf": "0"})
        parts.append((tmp_path / f"{name}.h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    assert indices(read_video(tmp_path / "both.h264", frames=6, width=64, height=48)) == [0, 1, 2, 0, 1, 2]


def test_pixel_aspects_of_television(tmp_path):
    path = make(tmp_path / "pal.mov", noise(1, 576, 720, 3), pixel_aspect=Fraction(64, 45), **LOSSLESS)
    assert proportion(path) == pytest.approx(16 / 9)


def test_a_recording_that_starts_between_key_frames(tmp_path):
    """As a stream that was joined late: what comes before the first key frame is not shown."""
    path = make(tmp_path / "clip.ts", numbered(20), "libx264", "yuv420p", options={"g": "10", "bf": "0"})
    packets = len(path.read_bytes()) // 188
    with av.open(str(path)) as container:
        sizes = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    content = path.read_bytes()
    start = sizes[5] // 188 * 188
    assert 0 < start < packets * 188
    path.write_bytes(content[: 188 * 3] + content[start:])  # the tables that name the stream, and its end
    assert indices(read_video(path, frames=10, width=64, height=48)) == list(range(10, 20))


def test_a_drawing_is_no_mask(tmp_path):
    (tmp_path / "mask.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>')
    with pytest.raises(UserError, match=r"mask .*svg (is coded in a way .* a picture to PNG|cannot be read as a mask)"):
        read_mask(tmp_path / "mask.svg", frames=1, width=64, height=48)


def without_default_duration(path):
    """Takes from a Matroska file what says how long each frame lasts, as recorders of screens and browsers do."""
    content = bytearray(path.read_bytes())
    element = content.index(b"\x23\xe3\x83")
    size = content[element + 3] & 0x7F
    content[element : element + 4 + size] = b"\xec" + bytes([0x80 | (size + 2)]) + bytes(size + 2)  # Void
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx")])
def test_the_rate_of_a_screen_recording_is_measured(tmp_path, suffix, codec):
    """It stands still for 2 seconds; FFmpeg's guess is 1000 frames per second."""
    times = [0, 16, 33, 50, 2050, 2066, 2083, 2100]
    path = make(tmp_path / f"screen.{suffix}", numbered(8), codec, "yuv420p", times=times)
    assert video_fps(without_default_duration(path)) == pytest.approx(7 / 2.1)
    assert indices(read_video(path, frames=8, width=64, height=48)) == list(range(8))
