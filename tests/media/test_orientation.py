"""Clips and pictures are turned and mirrored as players show them, in all eight ways."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.media.videos import make
from vrwkv_jax.media.video import read_video

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LETTERS = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
# Red and green above blue and white, "RG BW", are stored. For each way: a, b, c, d (a pixel x, y is shown at a x + c y,
# b x + d y, with y pointing down), how the tiles are shown, and the number that EXIF gives it.
WAYS = [
    ((1, 0, 0, 1), "RG BW", 1),
    ((-1, 0, 0, 1), "GR WB", 2),  # left and right exchanged: selfie cameras
    ((-1, 0, 0, -1), "WB GR", 3),  # half a turn
    ((1, 0, 0, -1), "BW RG", 4),  # top and bottom exchanged
    ((0, 1, 1, 0), "RB GW", 5),  # rows exchanged with columns
    ((0, 1, -1, 0), "BR WG", 6),  # a quarter turn clockwise: the top comes to the right
    ((0, -1, -1, 0), "WG BR", 7),
    ((0, -1, 1, 0), "GW RB", 8),  # a quarter turn counter-clockwise
]


def tiles(text, height=32, width=48):
    rows = [np.concatenate([np.full((height // 2, width // 2, 3), LETTERS[c]) for c in row], 1) for row in text.split()]
    return np.concatenate(rows).astype(np.uint8)


def shown(clip):
    """The letters of the tiles in the first frame."""
    height, width = clip.shape[1:3]
    points = [[clip[0, y, x] for x in (width // 4, 3 * width // 4)] for y in (height // 4, 3 * height // 4)]
    near = [
        [min(LETTERS, key=lambda c: np.abs(point - np.array(LETTERS[c], float)).max()) for point in r] for r in points
    ]
    return " ".join("".join(row) for row in near)


def set_matrix(path, a, b, c, d, scale=1 << 16):
    """Write a display matrix into the track header of an mp4."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    numbers = [round(value * scale) for value in (a, b, 0, c, d, 0, 0, 0)]
    content[at : at + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize(("matrix", "expected", "_"), WAYS)
def test_a_clip_with_a_display_matrix(tmp_path, matrix, expected, _):
    path = make(tmp_path / "clip.mp4", tiles("RG BW")[None], "libx264", "yuv420p")
    set_matrix(path, *matrix)
    size = {"width": 48, "height": 32} if matrix[0] else {"width": 32, "height": 48}
    assert shown(read_video(path, frames=1, **size)) == expected


@pytest.mark.parametrize(("matrix", "expected", "_"), WAYS[1:6:2])
def test_pixels_that_are_not_square_are_turned_too(tmp_path, matrix, expected, _):
    """A red left third shows where the pixels' width went."""
    picture = np.zeros((1, 32, 48, 3), np.uint8)
    picture[:, :, :16] = RED
    path = make(tmp_path / "clip.mp4", picture, "libx264", "yuv420p", pixel_aspect=2)  # 96x32 as shown
    set_matrix(path, *matrix)
    size = {"width": 96, "height": 32} if matrix[0] else {"width": 32, "height": 96}
    frame = read_video(path, frames=1, **size)[0, ..., 0] > 127
    along = frame.mean(axis=0 if matrix[0] else 1)
    assert along.shape == (96,) and abs(along.sum() - 32) <= 1
    mirrored = (matrix[0] or matrix[1]) < 0
    assert along[:30].mean() == (not mirrored) and along[-30:].mean() == mirrored


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [((0, 0, 0, 0), "RG BW"), ((0.02, 0.999, -0.999, 0.02), "BR WG"), ((0.5, 0, 0, 0.5), "RG BW")],
)
def test_matrices_that_do_more_or_less_than_turn(tmp_path, matrix, expected):
    path = make(tmp_path / "clip.mp4", tiles("RG BW", 48, 48)[None], "libx264", "yuv420p")
    set_matrix(path, *matrix)
    assert shown(read_video(path, frames=1, width=48, height=48)) == expected


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize(("_", "expected", "number"), WAYS)
def test_a_picture_with_an_orientation(tmp_path, suffix, _, expected, number):
    path, exif = tmp_path / f"picture.{suffix}", Image.Exif()
    exif[0x0112] = number
    Image.fromarray(tiles("RG BW")).save(path, exif=exif, quality=95)
    size = {"width": 48, "height": 32} if number < 5 else {"width": 32, "height": 48}
    assert shown(read_video(path, frames=1, **size)) == expected
