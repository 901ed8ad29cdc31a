"""Files that are not what they should be end in one sentence, without a word from FFmpeg."""

import os
import re

import av
import numpy as np
import pytest

from tests.media.videos import indices, make, noise, numbered
from vrwkv_jax.media.mask import read_mask
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.system.errors import UserError


def truncated(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def text_file(tmp_path):
    (tmp_path / "x.mp4").write_text("a car drives on a road\n" * 50)


def empty_file(tmp_path):
    (tmp_path / "x.mp4").touch()


def folder(tmp_path):
    (tmp_path / "x.mp4").mkdir()


def sound(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def without_its_index(tmp_path):
    truncated(make(tmp_path / "x.mp4", noise(30, 48, 64, 3), "libx264", "yuv420p"), 0.6)


def no_frames(tmp_path):
    make(tmp_path / "x.mp4", numbered(0), "libx264", "yuv420p")


def no_frames_avi(tmp_path):
    make(tmp_path / "x.avi", numbered(0), "mjpeg", "yuvj420p").rename(tmp_path / "x.mp4")


def cut_off(tmp_path):
    write_video(tmp_path / "x.mp4", noise(30, 48, 64, 3))
    truncated(tmp_path / "x.mp4", 0.6)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda tmp_path: None, "is not there"),
        (folder, "is a folder"),
        (text_file, "cannot be read as a video"),
        (empty_file, "cannot be read as a video"),
        (sound, "holds no video, only audio"),
        (without_its_index, "cannot be read as a video"),
        (no_frames, "holds no|cannot be read as a video"),  # what the muxer leaves differs among FFmpeg's versions
        (no_frames_avi, "holds no|cannot be read as a video"),
        (cut_off, r"has 1\d frames; .* needs 30: use at most 1\d frames|is damaged|cannot be read as a video"),
    ],
)
def test_a_file_that_will_not_do(tmp_path, spoil, sentence, capfd):
    spoil(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=sentence) as error:
        read_video(tmp_path / "x.mp4", frames=30, width=64, height=48)
    assert str(tmp_path / "x.mp4") in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # FFmpeg's own complaints stay inside


@pytest.mark.parametrize(("name", "kind"), [("x", "a folder"), ("x/%05d.png", "a pattern"), ("x/*.png", "a pattern")])
@pytest.mark.parametrize("read", [read_video, read_mask])
def test_numbered_pictures_are_told_how_to_become_a_clip(tmp_path, name, kind, read):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=rf"{re.escape(name)} is {kind}.*ffmpeg -i FOLDER/%05d\.png -c:v png NAME\.mov"):
        read(tmp_path / name, frames=1, width=64, height=48)


@pytest.mark.parametrize("read", [read_video, read_mask])
def test_a_pipe_is_no_file(tmp_path, read):
    """As of `<(...)` in a shell: reading it would wait, and it can be read but once."""
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(UserError, match=r"x\.mp4 is a pipe or a device: write the (video|mask) to a file"):
        read(tmp_path / "x.mp4", frames=1, width=64, height=48)


def test_an_address_is_to_be_downloaded_first():
    with pytest.raises(UserError, match=r"^https://host/x\.mp4 is an address: download the video first"):
        read_video("https://host/x.mp4", frames=1, width=64, height=48)


def test_a_name_like_a_pattern_is_a_name_where_it_is_there(tmp_path):
    write_video(tmp_path / "what*?%d.mp4", numbered(1))
    assert indices(read_video(tmp_path / "what*?%d.mp4", frames=1, width=64, height=48)) == [0]


def test_a_cut_off_file_gives_whole_frames_only(tmp_path):
    path = tmp_path / "x.mp4"
    write_video(path, noise(30, 48, 64, 3))
    content = path.read_bytes()
    whole = read_video(path, frames=30, width=64, height=48)
    given = []
    for share in np.linspace(0.3, 0.9, 8):
        path.write_bytes(content[: int(len(content) * share)])
        for index in range(30):
            try:
                frame = read_video(path, frames=1, start=index, width=64, height=48)[0]
            except UserError:
                continue
            np.testing.assert_array_equal(frame, whole[index])
            given.append(index)
    assert len(given) > 60  # about half of 240


def test_a_frame_that_ffmpeg_had_to_guess_is_refused(tmp_path):
    pictures = noise(30, 12, 16, 3).repeat(8, axis=1).repeat(8, axis=2)
    path = make(tmp_path / "clip.avi", pictures, "mpeg4", "yuv420p", options={"b": "3M"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = noise(3000).tobytes()
    path.write_bytes(content)
    assert read_video(path, frames=8, width=128, height=96).shape == (8, 96, 128, 3)
    with pytest.raises(UserError, match=r"frame \d+ of .*clip.avi is damaged: choose other frames"):
        read_video(path, frames=25, width=128, height=96)


def test_values_are_checked_before_the_file(tmp_path):
    with pytest.raises(UserError, match="width 500 is not a multiple of 8"):
        read_video(tmp_path / "missing.mp4", frames=1, width=500, height=64)


def test_a_clip_beyond_memory_is_refused(tmp_path):
    with pytest.raises(UserError, match="do not fit into memory"):
        read_video(tmp_path / "missing.mp4", frames=10**12, width=64, height=64)


def test_a_cover_picture_is_not_a_video(tmp_path):
    path = tmp_path / "song.mp4"
    sound(tmp_path)
    with av.open(str(tmp_path / "x.mp4")) as source, av.open(str(path), "w") as container:
        audio = container.add_stream_from_template(source.streams.audio[0])
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(noise(48, 64, 3)).reformat(format="yuvj420p")))
        container.mux(cover.encode())
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                container.mux(packet)
    with pytest.raises(UserError, match="holds no video"):
        read_video(path, frames=1, width=64, height=48)


def test_metadata_in_another_encoding(tmp_path):
    path = tmp_path / "clip.avi"
    make(path, numbered(3), "mjpeg", "yuvj420p")
    with av.open(str(path)) as source, av.open(str(tmp_path / "titled.avi"), "w") as container:
        container.metadata["title"] = "caf__"
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    content = (tmp_path / "titled.avi").read_bytes()
    assert b"caf__" in content
    path.write_bytes(content.replace(b"caf__", "café ".encode("latin-1")))
    assert indices(read_video(path, frames=3, width=64, height=48)) == [0, 1, 2]
