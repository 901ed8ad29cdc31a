"""A small checkpoint for all tests, and a clip to go with it."""

import fcntl
import os
import shutil
from collections.abc import Callable
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
def optimised():
    """For modules that spend more time in what is compiled than in the compiler; see conftest.py."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """What ``make`` puts into the directory that it is given, made once for all processes that run the tests."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    directory = root / "made_once" / name
    directory.parent.mkdir(exist_ok=True)
    with open(directory.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = directory.with_suffix(".done")
        if not done.exists():
            make(directory)
            done.touch()
    return directory


@cache
def clip(frames: int = 3, width: int = 24, height: int = 16) -> np.ndarray:
    return built_in.clip(frames, width, height)
