"""What a model is, in words for the page."""

import os
import subprocess
import sys
from functools import lru_cache

BUILT_IN = (
    "A small model that comes with the package: quick on any computer, but it knows only rendered shapes (a yellow "
    "star, a blue square, sunset, night, watercolour)."
)
FETCHED = "A model of the Hugging Face hub. It is fetched when the run starts, if it isn't here yet."
PATIENCE = 120
"""Seconds for a look at a checkpoint."""


def described(model: str | None) -> str:
    """Lines that say what a model is and whether it can be used: those of ``vrwkv convert inspect``."""
    if model is None:
        return BUILT_IN
    if not os.path.exists(model):
        return FETCHED
    return _inspected(model, os.stat(model).st_mtime_ns)


@lru_cache(maxsize=32)
def _inspected(model: str, changed: int) -> str:
    """In a process of its own, for a device's memory to stay free for the jobs."""
    command = [sys.executable, "-m", "vrwkv_jax", "convert", "inspect", model]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"{model} could not be looked at within {PATIENCE} s."
    return (done.stdout or done.stderr).strip()
