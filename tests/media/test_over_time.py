"""Clips over time: slices and curves of them show what flickers and what stands still."""

import numpy as np
import pytest
from PIL import Image

from tests.media.videos import noise, smooth
from vrwkv_jax.media import over_time
from vrwkv_jax.media.over_time import OverTime
from vrwkv_jax.system.errors import UserError


def gathered(clips, size):
    frames = len(next(iter(clips.values())))
    found = OverTime(clips, frames)
    for begin in range(0, frames, size):
        for label, clip in clips.items():
            found.add(label, clip[begin : begin + size])
    return found


@pytest.mark.parametrize("size", [1, 4, 13])
def test_the_change_is_that_of_neighbours(size):
    clips = {"source": smooth(13, 17, 23), "edit": noise(13, 17, 23, 3)}
    found = gathered(clips, size)
    for label, clip in clips.items():
        expected = np.abs(np.diff(clip.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found.changes(label), expected, rtol=1e-12)


def saved(found, tmp_path):
    found.save(tmp_path / "slices.png", tmp_path / "curve.png")
    return [np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("slices.png", "curve.png")]


def test_a_slice_is_the_middle_column_over_time(tmp_path):
    """13 frames are 39 pixels wide each, 17 rows 12 high; the clips stand one under the other."""
    clips = {"source": noise(13, 17, 23, 3), "edit": noise(13, 17, 23, 3, seed=1)}
    slices, _ = saved(gathered(clips, 5), tmp_path)
    top = 0
    for clip in clips.values():
        expected = clip[:, :, 11].swapaxes(0, 1).repeat(12, axis=0).repeat(39, axis=1)
        places = [y for y in range(top, len(slices) - 203) if (slices[y : y + 204, 8 : 8 + 39 * 13] == expected).all()]
        assert len(places) == 1
        top = places[0] + 204


def test_flicker_is_seen_as_upright_stripes(tmp_path):
    still = np.broadcast_to(smooth(1, 16, 16), (8, 16, 16, 3))
    flickering = (still * np.where(np.arange(8) % 2, 1, 0.5)[:, None, None, None]).astype(np.uint8)
    slices, curve = saved(gathered({"source": still.copy(), "edit": flickering}, 8), tmp_path)
    rows = slices[:, 8 : 8 + 512].astype(int)
    level = np.ptp(rows, axis=1).max(axis=-1) == 0  # of one colour from the first frame to the last
    assert level.sum() > 192  # the whole source
    assert (np.ptp(rows, axis=1).max(axis=-1) > 10).sum() > 150  # the edit
    assert (np.ptp(curve, axis=-1) > 100).sum() > 500  # a coloured line


def test_of_long_clips_some_columns_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(over_time, "WIDEST", 8)
    clip = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 16, 16, 3))
    slices, _ = saved(gathered({"source": clip}, 7), tmp_path)
    row = slices[60, 8 : 8 + 64 * 8 : 64, 0]
    assert row.tolist() == np.linspace(0, 49, 8).round().tolist()


def test_one_frame_has_no_change(tmp_path):
    found = gathered({"source": smooth(1, 16, 16)}, 1)
    assert found.changes("source") == []
    slices, curve = saved(found, tmp_path)
    assert slices.shape[1] == 512 + 16 and curve.shape[1] > 300


def test_equal_clips_make_equal_bytes(tmp_path):
    for name in ("a", "b"):
        gathered({"source": smooth(5, 16, 16)}, 2).save(tmp_path / f"{name}s.png", tmp_path / f"{name}c.png")
    for kind in "sc":
        assert (tmp_path / f"a{kind}.png").read_bytes() == (tmp_path / f"b{kind}.png").read_bytes()


def test_nothing_is_written_into_the_void(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        gathered({"source": smooth(2, 16, 16)}, 2).save(tmp_path / "no" / "s.png", tmp_path / "c.png")
