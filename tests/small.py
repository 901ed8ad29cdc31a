"""One small checkpoint for all tests of a session, and a clip to go with it."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from vrwkv_jax.small_clip import render
from vrwkv_jax.small_model import write_small_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A directory in the diffusers layout with the package's own small model."""
    directory = tmp_path_factory.mktemp("checkpoint")
    write_small_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules that spend more time in the compiler than in what it compiles."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@cache
def clip(frames: int = 3, width: int = 24, height: int = 16) -> np.ndarray:
    return render(frames, width, height)
