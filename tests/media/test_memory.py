"""Host memory for clips of any length: ten times the frames take no more of it."""

import numpy as np

from tests.checkpoint.memory import LINUX, output_of
from tests.media.videos import chirp, numbered, with_sound

COPY = """
import sys
from tests.checkpoint.memory import whole_peak
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.writer import video_writer
source, target = sys.argv[1:]
reader = VideoReader(source, frames="all", width=320, height=240)
with video_writer(target, reader.timing()) as write:
    for chunk in reader.chunks(8):
        write(chunk)
print(whole_peak(), len(reader))
"""


@LINUX
def test_reading_and_writing_takes_as_much_for_ten_times_the_frames(tmp_path):
    """40 and 400 frames of 320x240, which would take 9 and 92 MB, with their times and their sound."""
    peaks = []
    for count in (40, 400):
        pictures = np.resize(numbered(30, 240, 320), (count, 240, 320, 3))
        times = np.cumsum([0, *np.random.default_rng(0).integers(20, 60, count - 1)]).tolist()
        path = with_sound(tmp_path / "clip.mkv", pictures, chirp(count / 25, 48000), ("mpeg4", "flac"), times=times)
        peak, frames = output_of(COPY, path, tmp_path / "edit.mp4")
        assert frames == count
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0]
