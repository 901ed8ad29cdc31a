"""Two processes, as on two hosts, tune, stop, go on, invert and edit together as one does alone."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs.runs import EDITS, STEPS, TINY, figures
from vrwkv_jax.checkpoint import native
from vrwkv_jax.media.video import read_video
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.tuning.state import TuningState

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds, on a machine that has other things to do
INTERRUPTED = """
import signal, sys
from vrwkv_jax.runs.log import RunLog
from vrwkv_jax.commands.cli import run_module
add = RunLog.add
def add_and_signal(self, **figures):
    add(self, **figures)
    if figures["step"] == 3:
        signal.raise_signal(signal.SIGTERM)
RunLog.add = add_and_signal
sys.exit(run_module("vrwkv_jax.commands.tune"))
"""

NEWEST = """
import sys
from pathlib import Path
import jax
import jax.numpy as jnp
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.tuning.state import TuningState
from vrwkv_jax.checkpoint import native
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.parallel.hosts import join_hosts
*damaged, directory, _, coordinator = sys.argv[1:]
restore = native.restore
def restore_or_fail(path, *args, **kwargs):
    if path.name in damaged:
        raise UserError(f"{path} is damaged")
    return restore(path, *args, **kwargs)
native.restore = restore_or_fail
join_hosts(coordinator)
like = TuningState(0, {"kernel": jnp.zeros(3)}, ())
sys.exit(run_cli(lambda: print(Checkpoints(Path(directory)).newest(like).step)))
"""


def tune_together(*commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each of the processes that join each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true", "WORLD_SIZE": str(len(commands))}
    flags = ["--coordinator", f"127.0.0.1:{port}"]
    processes = [
        subprocess.Popen(
            [sys.executable, *command, *flags],
            cwd=ROOT,
            env={**os.environ, **settings, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def media(run: Path) -> set[Path]:
    """The clips and pictures of a run."""
    return {path.relative_to(run) for path in run.rglob("*") if path.suffix in (".mp4", ".png")}


@pytest.mark.processes
def test_two_processes_equal_one(whole, files, tmp_path):
    output = tmp_path / "run"
    begin = [*files, *TINY, *EDITS, *STEPS, "--mesh", "frame=2", "--output", str(output)]
    first, second = tune_together(["-m", "train.tune", *begin], ["-c", INTERRUPTED, *begin])
    assert first[0] == second[0] == 128 + signal.SIGTERM, first[2] + second[2]
    assert "saved up to step 3 of its tuning; resume it with" in first[2] and "loading" not in second[2]

    resume = ["-m", "train.tune", "--output", str(output), "--resume"]
    first, second = tune_together(resume, resume)
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "resuming after step 3 of 4" in first[2] and "holds the run" in first[1]
    assert "step" not in second[2] and "holds the run" not in second[1]
    assert media(output) == media(whole)
    # Adam divides by the gradient's size: where that is tiny, a rounding is magnified. Its largest step is 4.5e-3.
    expected = native.restore(whole / "tuned")
    for path, array in native.restore(output / "tuned", expected).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-5, atol=5e-5, err_msg=path)
    for entry, alone in zip(figures(output), figures(whole), strict=True):
        assert abs(entry["loss"] / alone["loss"] - 1) < 1e-5
    trajectories = [np.load(run / "trajectory.npy") for run in (output, whole)]
    np.testing.assert_allclose(*trajectories, rtol=1e-4, atol=1e-4)
    for edit in (path for path in (whole / "edits").glob("edit-*.mp4")):
        clips = [read_video(run / "edits" / edit.name, frames=2, width=16, height=16) for run in (output, whole)]
        assert np.abs(clips[0].astype(int) - clips[1]).max() <= 3  # of what the video codec makes of a rounding


def test_all_go_on_from_what_each_can_read(tmp_path):
    """Of steps 1 to 3 one process can't read the last, the other not the one before."""
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 2, 1):
        checkpoints.save(TuningState(step, {"kernel": jnp.full(3, step)}, ()), {})
    first, second = tune_together(
        ["-c", NEWEST, "step-000002", str(tmp_path)], ["-c", NEWEST, "step-000003", str(tmp_path)]
    )
    for status, output, errors in (first, second):
        assert status == 0 and output.splitlines()[-1] == "1", errors
    assert "the checkpoint of step 3 is damaged, so that of step 1 is taken instead (another process" in first[2]
    all_damaged = ["-c", NEWEST, "step-000001", "step-000002", "step-000003", str(tmp_path)]
    for status, _, errors in tune_together(["-c", NEWEST, str(tmp_path)], all_damaged):
        assert status == 2 and "is damaged: start again with overwrite=True" in errors


def test_a_mistake_is_one_for_all(files, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("all my work")
    command = ["-m", "train.tune", *files, *TINY, "--mesh", "frame=2", "--output", str(tmp_path / "run")]
    for status, _, errors in tune_together(command, command):
        assert status == 2
        assert errors.splitlines()[-1].startswith(f"error: --output {tmp_path / 'run'} is not empty")
