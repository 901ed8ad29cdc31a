"""A tiny run, for all tests of the commands."""

import shutil
from pathlib import Path

import pytest

from tests.commands.tiny import PROMPTS, TINY
from tests.small import clip, made_once
from vrwkv_jax import built_in
from vrwkv_jax.commands.tune import main
from vrwkv_jax.media.video import write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "disc.mp4"
    write_video(path, clip(8, 48, 32), fps=10)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory, tiny_checkpoint) -> list[str]:
    """Flags that name a tiny model with a VAE that has learnt something: that of the built-in model."""

    def make(directory: Path) -> None:
        shutil.copytree(tiny_checkpoint, directory, ignore=shutil.ignore_patterns("vae"))
        shutil.copytree(built_in.MODEL / "vae", directory / "vae")

    return ["--model", str(made_once(tmp_path_factory, "model", make)), "--feature-layers", "up_blocks/0"]


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory, video, model) -> Path:
    """To look at, and to leave as it is."""

    def make(directory: Path) -> None:
        source = [*model, "--video", str(video), "--stride", "2", "--start", "1"]
        main([*TINY, *PROMPTS, *source, "--output", str(directory), "--train", "all"])

    return made_once(tmp_path_factory, "disc", make)


@pytest.fixture
def own_run(run_directory, tmp_path) -> Path:
    """A copy of the run, to write into."""
    return Path(shutil.copytree(run_directory, tmp_path / "disc"))
