"""A small checkpoint for all tests, and a clip to go with it."""

import shutil
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from vrwkv_jax import built_in


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A directory in the diffusers layout: a copy of the small model that the package ships."""
    directory = tmp_path_factory.mktemp("built_in") / "checkpoint"
    shutil.copytree(built_in.MODEL, directory)
    return directory


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules that spend more time in the compiler than in what it compiles."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@cache
def clip(frames: int = 3, width: int = 24, height: int = 16) -> np.ndarray:
    return built_in.clip(frames, width, height)
