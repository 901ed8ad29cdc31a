"""Cuts by a rule on errors, and on real clips where there are any."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from vrwkv_jax.evaluation.cuts import find_cuts
from vrwkv_jax.media.frames import read_frames

CLIPS = next((folder for up in Path(__file__).parents if (folder := up / "shared" / "clips").is_dir()), None)


@pytest.mark.parametrize(
    ("errors", "cuts"),
    [
        ([], []),
        ([90], []),  # a clip of two frames says nothing of what is usual
        ([1, 40], [1]),
        ([1, 1, 9.9, 1, 1], []),  # small
        ([1, 1, 10.1, 1, 1], [2]),
        ([8, 8, 31, 8, 8], []),  # a wild clip
        ([8, 8, 33, 8, 8], [2]),
        ([50, 1, 1, 1, 60], [0, 4]),
        ([1] * 15 + [30] * 15, []),  # a change of scene that lasts is none at its borders beyond ten pairs
        ([2, 2, 2, 40, 2, 2, 45, 2, 2], [3, 6]),
    ],
)
def test_rule(errors, cuts):
    found = find_cuts(np.array(errors, float))
    assert found.dtype == bool and np.flatnonzero(found).tolist() == cuts


@pytest.mark.skipif(CLIPS is None, reason="there is no folder of real clips, ../shared/clips")
@pytest.mark.parametrize(
    ("name", "frames", "cuts"),
    [
        ("cycling-with-cuts.mp4", 250, [30, 76, 137, 187, 242]),
        ("cars-parking.mp4", 80, []),
        ("car-turn.mp4", 80, []),
    ],
)
def test_real_clips(name, frames, cuts):
    pytest.importorskip("cv2", reason="OpenCV is optional: pip install 'vrwkv-jax[metrics]'")
    from vrwkv_jax.evaluation.optical_flow import correspondence, warp_differences

    quarters = [
        frame[: h - h % 4, : w - w % 4].reshape(h // 4, 4, w // 4, 4, 3).mean((1, 3)).astype(np.uint8)
        for frame in islice(read_frames(CLIPS / name), frames)
        for h, w in [frame.shape[:2]]
    ]
    errors = [warp_differences(a, b, correspondence(a, b).places).mean() for a, b in pairwise(quarters)]
    assert [int(index) + 1 for index in np.flatnonzero(find_cuts(np.array(errors)))] == cuts
