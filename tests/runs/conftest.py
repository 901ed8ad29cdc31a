"""A tiny run that nothing has disturbed, to compare others with."""

from pathlib import Path

import pytest

from tests.runs.runs import EDITS, STEPS, TINY
from tests.small import made_once
from vrwkv_jax import built_in
from vrwkv_jax.media.video import write_video


@pytest.fixture(scope="session")
def files(tmp_path_factory, tiny_checkpoint) -> list[str]:
    """Flags that name the model and the clip."""
    path = tmp_path_factory.mktemp("videos") / "disc.mp4"
    write_video(path, built_in.clip(2, 16, 16), fps=10)
    return ["--model", str(tiny_checkpoint), "--video", str(path)]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, files) -> Path:
    """The directory of the run."""
    from vrwkv_jax.commands.tune import main

    def make(directory: Path) -> None:
        main([*files, *TINY, *EDITS, *STEPS, "--output", str(directory)])

    return made_once(tmp_path_factory, "whole", make)
