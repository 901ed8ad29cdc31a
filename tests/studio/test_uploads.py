"""Clips that come through the page: what is taken, under which name, and where it stays."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.small import clip
from vrwkv_jax.media import opened
from vrwkv_jax.media.video import write_video
from vrwkv_jax.studio.uploads import Limits, accept, cropped, uploaded_clip, uploaded_clips, whole_size
from vrwkv_jax.system.errors import UserError

LIMITS = Limits(megabytes=1, seconds=2.0, pixels=64)


@pytest.fixture
def uploads(tmp_path) -> Path:
    path = tmp_path / "uploads"
    path.mkdir()
    return path


@pytest.fixture
def sent(tmp_path) -> Path:
    """A clip of 5 frames in 0.5 s, where a browser has put it."""
    path = tmp_path / "sent.mp4"
    write_video(path, clip(5, 48, 32), 10)
    return path


def test_a_clip_is_taken_under_a_name_of_ours(sent, uploads):
    content = sent.read_bytes()
    taken = accept(sent, "Mein Urlaub (2).MP4", uploads, LIMITS)
    assert (taken.frames, taken.fps, taken.width, taken.height, taken.seconds) == (5, 10, 48, 32, 0.5)
    assert taken.path.parent == uploads and taken.path.read_bytes() == content and not sent.exists()
    assert taken.path.name.startswith("mein-urlaub-2-") and taken.path.suffix == ".mp4"
    assert uploaded_clips(uploads) == [taken.path]
    assert uploaded_clip(uploads, taken.path.name) == taken


@pytest.mark.parametrize(
    "name", ["../../star.mp4", "/etc/star.mp4", "..\\star.mp4", "\x1b[31m\n.mp4", "ü" * 300 + ".mp4"]
)
def test_no_name_leads_out_of_the_directory(sent, uploads, name):
    taken = accept(sent, name, uploads, LIMITS)
    assert [taken.path] == list(uploads.iterdir())


@pytest.mark.parametrize("name", ["../sent.mp4", "/etc/passwd", "", ".", "other-12345678.mp4"])
def test_what_was_not_taken_is_not_there(sent, uploads, name):
    with pytest.raises(UserError, match="there is no upload"):
        uploaded_clip(uploads, name)


def test_links_and_strangers_are_not_listed(sent, uploads):
    (uploads / "link-12345678.mp4").symlink_to(sent)
    (uploads / "notes.mp4").touch()
    assert uploaded_clips(uploads) == []


def test_limits(sent, uploads, tmp_path):
    def refused(complaint: str, limits: Limits, path: Path = sent, name: str = "star.mp4") -> None:
        content = path.read_bytes()
        with pytest.raises(UserError, match=complaint):
            accept(path, name, uploads, limits)
        assert not path.exists() and not list(uploads.iterdir())
        path.write_bytes(content)

    refused(r"star.mp4 lasts 0 s, and 0.4 are taken: cut it first", Limits(seconds=0.4))
    refused(r"star.mp4 is 48 × 32, and 40 pixels a side are taken", Limits(pixels=40))
    refused(r"star.exe is not a clip: choose a video", LIMITS, name="star.exe")
    large = tmp_path / "large.mp4"
    large.write_bytes(b"\0" * 2_000_000)
    refused(r"large.mp4 has 2 MB, and 1 are taken", LIMITS, large, "large.mp4")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", os.urandom(2000)])
def test_what_is_no_video(uploads, tmp_path, content):
    path = tmp_path / "song.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^song\.mp4 cannot be read as a video"):
        accept(path, "song.mp4", uploads, LIMITS)
    assert not list(uploads.iterdir())


def test_sound_alone_is_no_video(uploads, tmp_path):
    path = tmp_path / "sent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="cannot be read as a video"):
        accept(path, "song.mp4", uploads, LIMITS)


def test_limits_are_checked_before_anything_is_decoded(sent, uploads, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(opened, "_shown", lambda *_: iter(()))
    monkeypatch.setattr(Image.Image, "load", fail)
    assert accept(sent, "star.mp4", uploads, LIMITS).frames == 5


@pytest.mark.parametrize(
    ("size", "to", "expected"),
    [((320, 160), 1.0, (80, 0, 240, 160)), ((160, 320), 1.0, (0, 80, 160, 240)), ((320, 160), 2.0, (0, 0, 320, 160))],
)
def test_what_is_cropped(size, to, expected):
    assert cropped(*size, to) == expected
    assert cropped(*size, to, "stretch") == (0, 0, *size)


def test_whole_size(sent):
    assert whole_size(sent) == (320, 216)  # 320 / 1.5, to a multiple of 8
