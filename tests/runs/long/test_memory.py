"""A long run of ten times the frames takes no more memory."""

import numpy as np
import pytest

from tests.checkpoint.memory import LINUX, output_of
from tests.runs.long.test_long import WAYS
from vrwkv_jax import built_in
from vrwkv_jax.media.video import write_video

RUN = """
import os, sys
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "false"  # it runs for longer than it compiles
from tests.checkpoint.memory import whole_peak
from vrwkv_jax.commands.tune import main
main(sys.argv[1:])
print(whole_peak())
"""


@LINUX
@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_ten_times_the_frames(way, tiny_checkpoint, tmp_path):
    """40 and 400 frames of 32x32."""
    peaks = []
    for count in (40, 400):
        video = tmp_path / f"{count}.mp4"
        write_video(video, np.resize(built_in.clip(20, 32, 32), (count, 32, 32, 3)), fps=10)
        flags = ["--model", tiny_checkpoint, "--video", video, *WAYS[way], "--width", "32", "--height", "32"]
        (peak,) = output_of(RUN, *flags, "--max-clip", "20", "--output", tmp_path / f"run-{count}")
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0]
