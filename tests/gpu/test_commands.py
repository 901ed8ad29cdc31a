"""``python -m train.tune`` on a GPU, from a clip to its edits."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.gpu.job import ROOT, command, tune_flags
from tests.gpu.conftest import TINY
from vrwkv_jax.checkpoint import native

pytestmark = pytest.mark.gpu

CASE = {"tiny": TINY, "frames": 2 if TINY else 8, "steps": 6, "sampling_steps": 2}
DETERMINISTIC = {"XLA_FLAGS": "" if TINY else "--xla_gpu_deterministic_ops=true"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, str]:
    """The environment of commands that share what they compile."""
    return {"JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_arguments(tmp_path, compiled):
    few = ["--steps", "2", "--num-inference-steps", "2"] if TINY else []
    succeeded(command(["--output", str(tmp_path / "run"), *few], compiled))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(list((tmp_path / "run" / "edits").glob("*.mp4"))) >= 3
    if not TINY:
        assert metrics["reconstruction_psnr_db"] > 20
        assert (metrics["dtype"], metrics["bi_wkv"]) == ("bfloat16", "mosaic")


def test_full_size(full_size, tmp_path, compiled):
    """It ends, its losses are finite, and a step's peak of memory is what the command has said, within 15 %.

    The run before compiles, and its peak is that of the trials which that takes.
    """
    output = tmp_path / "run"
    succeeded(command([*tune_flags(full_size, CASE), "--output", str(tmp_path / "compiling")], compiled))
    said = succeeded(command([*tune_flags(full_size, CASE), "--output", str(output)], compiled))
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert len(log) == CASE["steps"] and all(np.isfinite(entry["loss"]) for entry in log)
    assert list((output / "edits").glob("*.mp4"))
    estimate = re.search(r"tuning needs about ([\d.]+) GB", said)
    assert estimate is not None
    if not TINY:
        assert log[-1]["memory_bytes"] / 1e9 == pytest.approx(float(estimate[1]), rel=0.15)


def test_killed_and_resumed(full_size, tmp_path, compiled):
    """Bit for bit what a run is that nothing disturbed."""
    environment = compiled | DETERMINISTIC
    flags = [*tune_flags(full_size, CASE), "--checkpoint-every", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    succeeded(command([*flags, "--output", str(whole)], environment))
    process = subprocess.Popen(
        [sys.executable, "-m", "train.tune", *flags, "--output", str(killed)],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
    )
    log = killed / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (killed / "unfinished").is_dir()
    succeeded(command(["--output", str(killed), "--resume"], environment))
    expected = native.restore(whole / "tuned")
    actual = native.restore(killed / "tuned")
    assert expected.keys() == actual.keys() and len(expected) > 0
    for path, array in expected.items():
        assert np.asarray(actual[path]).tobytes() == np.asarray(array).tobytes(), path
    assert (killed / "trajectory.npy").read_bytes() == (whole / "trajectory.npy").read_bytes()
    for edit in (whole / "edits").glob("*.mp4"):
        assert (killed / "edits" / edit.name).read_bytes() == edit.read_bytes()
