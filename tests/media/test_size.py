"""Sizes follow the proportions of the source, without distortion, within what the model was trained on."""

import itertools

import pytest

from vrwkv_jax.media.size import cropped, settled

SOURCES = [(1920, 1080), (1080, 1920), (640, 480), (720, 576), (2048, 858), (317, 201), (500, 500), (4000, 1000)]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_clip_keeps_its_proportions_and_the_usual_area(source):
    """By trial of all sizes: none is larger and crops as little."""
    proportion = source[0] / source[1]
    width, height = settled(0, 0, proportion)
    assert width % 8 == height % 8 == 0 and width * height <= 512 * 512
    lost = 1 - min(width * source[1], height * source[0]) / max(width * source[1], height * source[0])
    assert lost <= 0.01 and cropped(width, height, proportion) == pytest.approx(lost)
    for wide, high in itertools.product(range(8, 2048, 8), repeat=2):
        if width * height < wide * high <= 512 * 512:
            assert cropped(wide, high, proportion) > 0.01
    assert width * height > 0.9 * 512 * 512


@pytest.mark.parametrize(
    ("given", "source", "expected"),
    [
        ((640, 0), (1920, 1080), (640, 360)),
        ((0, 256), (1920, 1080), (456, 256)),  # 455.1
        ((512, 0), (720, 1280), (512, 912)),  # 910.2
        ((512, 512), (1920, 1080), (512, 512)),
        ((0, 64), (1, 100), (8, 64)),
    ],
)
def test_what_is_given_stays(given, source, expected):
    assert settled(*given, source[0] / source[1]) == expected


@pytest.mark.parametrize("proportion", [1e-5, 1e5])
def test_strips_have_a_size(proportion):
    width, height = settled(0, 0, proportion)
    assert width % 8 == height % 8 == 0 and min(width, height) >= 8 and width * height <= 512 * 512
