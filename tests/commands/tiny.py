"""Flags of a tiny run, and what is in its clips."""

from pathlib import Path

import av
import numpy as np

TINY = ["--frames", "3", "--width", "24", "--height", "16", "--steps", "2", "--num-inference-steps", "2"]
PROMPTS = ["--prompt", "a red disc", "--edit-prompt", "a blue disc", "--edit-prompt", "Ein grüner Ball / on sand?"]


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
