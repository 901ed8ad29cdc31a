"""Tests of the product on an NVIDIA GPU: pytest -m gpu tests/gpu. VRWKV_TINY=1 shrinks them to what a CPU can try."""

import os
from pathlib import Path

import jax
import pytest

from benchmarks.gpu.job import make_checkpoint

# The commands that are tested need the GPU's memory as well: JAX would take most of it at once, here and there.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

TINY = os.environ.get("VRWKV_TINY") == "1"


@pytest.fixture(autouse=True, scope="session")
def gpu():
    if jax.default_backend() != "gpu" and not TINY:
        pytest.skip("needs an NVIDIA GPU and jax[cuda13]; VRWKV_TINY=1 tries small sizes on a CPU")


@pytest.fixture(scope="session")
def full_size(gpu, tmp_path_factory) -> Path:
    """Stable Diffusion 1.5's layout with random weights."""
    directory = tmp_path_factory.mktemp("full_size") / "checkpoint"
    make_checkpoint(directory, TINY)
    return directory
