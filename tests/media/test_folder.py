"""Folders of pictures are clips: in which order, and what may be in them."""

import numpy as np
import pytest
from PIL import Image

from tests.media.videos import indices, noise, numbered
from vrwkv_jax.media.mask import read_mask
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import length, proportion, read_video, video_fps
from vrwkv_jax.system.errors import UserError

SIZE = {"width": 64, "height": 48}


def folder(path, names, pictures=None):
    path.mkdir()
    pictures = numbered(len(names)) if pictures is None else pictures
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(path / name, **({"lossless": True} if name.endswith("webp") else {}))
    return path


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_pictures_come_in_the_order_of_their_numbers(tmp_path, suffix):
    path = folder(tmp_path / "clip", [f"shot-{number}.{suffix}" for number in (1, 2, 9, 10, 11, 100)])
    assert indices(read_video(path, frames=6, **SIZE)) == list(range(6))
    assert indices(read_video(f"{path}/", frames=2, start=1, stride=3, **SIZE)) == [1, 4]


@pytest.mark.parametrize(
    "names",
    [
        ["a2b1.png", "a2b3.png", "a10b2.png"],
        ["0001.png", "01.png", "2.png"],  # equal numbers: as the names sort
        ["7.png", "B.png", "c.png"],
        ["x.png", "x1.png", "X2.png"],
    ],
)
def test_names_with_several_numbers_and_none(tmp_path, names):
    assert indices(read_video(folder(tmp_path / "clip", names), frames=3, **SIZE)) == [0, 1, 2]


def test_pictures_are_turned_as_they_are_shown(tmp_path):
    """Two of one size as shown, although they are stored lying and standing."""
    standing = noise(64, 48, 3)
    path = folder(tmp_path / "clip", ["1.png"], [standing])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(np.rot90(standing)).save(path / "2.png", exif=exif)
    clip = read_video(path, frames=2, width=48, height=64)
    np.testing.assert_array_equal(clip, [standing, standing])


def test_hidden_files_are_left_out(tmp_path):
    path = folder(tmp_path / "clip", ["1.png", "2.png"])
    (path / ".DS_Store").write_bytes(b"Bud1")
    assert length(path) == 2 and indices(read_video(path, frames="all", **SIZE)) == [0, 1]


def test_there_are_25_in_a_second(tmp_path):
    path = folder(tmp_path / "clip", [f"{number}.png" for number in range(10)])
    assert video_fps(path) == 25 and proportion(path) == 64 / 48
    assert indices(read_video(path, frames="0.2s", start="0.12s", **SIZE)) == [3, 4, 5, 6, 7]
    reader = VideoReader(path, frames="all", stride=2, **SIZE)
    timing = reader.timing()
    assert (timing.fps, timing.times, timing.sound) == (12.5, None, None)


def test_masks_too(tmp_path):
    masks = np.zeros((3, 48, 64), np.uint8)
    for frame, mask in enumerate(masks):
        mask[:, 8 * frame :] = 255
    path = folder(tmp_path / "mask", ["1.png", "2.png", "10.png"], masks)
    np.testing.assert_array_equal(read_mask(path, frames=3, **SIZE).places, masks > 0)


def spoilt(path, what):
    folder(path, ["1.png", "2.png", "3.png"])
    if what == "text":
        (path / "2.png").write_text("a picture")
    elif what == "film":
        (path / "2.png").write_bytes(b"\0\0\0 ftypisom")
    elif what == "folder":
        (path / "4").mkdir()
    elif what == "size":
        Image.fromarray(noise(32, 32, 3)).save(path / "3.png")
    elif what == "animation":
        first, *others = map(Image.fromarray, numbered(3))
        first.save(path / "2.png", format="PNG", save_all=True, append_images=others)
    elif what == "cut":
        content = (path / "2.png").read_bytes()
        (path / "2.png").write_bytes(content[: len(content) // 2])
    else:
        for file in path.iterdir():
            file.unlink()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("empty", r"clip is a folder without pictures: give one with a picture for each frame$"),
        ("text", r"clip/2\.png is no picture, whatever its name: .*; move it elsewhere$"),
        ("film", r"clip/2\.png is no picture, whatever its name: "),
        ("folder", r"clip/4 is no picture: a folder of frames holds nothing but pictures; move it elsewhere$"),
        (
            "size",
            r"the pictures in .*clip are of different sizes \(1\.png is 64x48 and 3\.png is 32x32\): bring all to one",
        ),
        ("animation", r"clip/2\.png is an animation: a folder of frames holds one picture for each of them$"),
        ("cut", r"clip/2\.png cannot be read as a picture \(.*\): it may be damaged or cut off$"),
    ],
)
def test_what_is_no_clip_is_named(tmp_path, what, sentence):
    spoilt(tmp_path / "clip", what)
    with pytest.raises(UserError, match=sentence) as error:
        read_video(tmp_path / "clip", frames="all", **SIZE)
    assert "\n" not in str(error.value)


def test_fewer_pictures_than_frames(tmp_path):
    path = folder(tmp_path / "clip", ["1.png", "2.png"])
    with pytest.raises(UserError, match=r"clip has 2 frames; .* use at most 2 frames"):
        read_video(path, frames=3, **SIZE)
