"""A tiny run, for all tests of the commands."""

import shutil
from pathlib import Path

import jax
import pytest

from tests.commands.tiny import PROMPTS, TINY
from tests.small import clip
from vrwkv_jax.commands.tune import main
from vrwkv_jax.media.video import write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "disc.mp4"
    write_video(path, clip(8, 48, 32), fps=10)
    return path


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory, video, checkpoint) -> Path:
    """To look at, and to leave as it is."""
    directory = tmp_path_factory.mktemp("runs") / "disc"
    source = ["--model", str(checkpoint), "--video", str(video), "--stride", "2", "--start", "1"]
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    main([*TINY, *PROMPTS, *source, "--output", str(directory), "--train", "all"])
    jax.config.update("jax_disable_most_optimizations", before)
    return directory


@pytest.fixture
def own_run(run_directory, tmp_path) -> Path:
    """A copy of the run, to write into."""
    return Path(shutil.copytree(run_directory, tmp_path / "disc"))
