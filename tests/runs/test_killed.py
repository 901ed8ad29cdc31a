"""A process that is killed without warning, again and again, ends in the same run as one that is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs.runs import EDITS, STEPS, TINY, assert_same_run
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.own import LOCK

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds, on a machine that has other things to do


def start(flags: list[str], cache: Path) -> subprocess.Popen:
    """``python -m train.tune`` with what the fixture ``whole`` is compiled with; programs are shared in ``cache``."""
    settings = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "train.tune", *flags],
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(process: subprocess.Popen, moment: Callable[[], bool]) -> None:
    """Kills ``process`` at ``moment``; it must not have ended before."""
    until = time.monotonic() + PATIENCE
    while not moment():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """Where compiled programs are kept."""
    return tmp_path_factory.mktemp("programs")


def flags(files: list[str], output: Path) -> tuple[list[str], list[str]]:
    """To begin a run in ``output``, and to resume it."""
    begin = [*files, *TINY, *EDITS, *STEPS, "--checkpoint-every", "1", "--output", str(output)]
    return begin, ["--output", str(output), "--resume"]


def test_killed_and_resumed(whole, files, programs, tmp_path):
    """In each part of the run: while a checkpoint is written, in the inversion, in the edits, while all is written."""
    output = tmp_path / "run"
    begin, resume = flags(files, output)
    log, unfinished = output / "log.jsonl", output / "unfinished"

    def logged(steps: int) -> bool:
        return log.exists() and log.read_text().count("\n") >= steps

    kill_when(start(begin, programs), lambda: logged(2) and any(unfinished.glob(".step-*.part")))
    assert unfinished.is_dir() and not (output / "tuned").exists()
    kill_when(start(resume, programs), lambda: any(path.read_text() for path in unfinished.glob("edits/*.crc32")))
    kill_when(start(resume, programs), lambda: len(list(unfinished.glob("edits/*.npz"))) > 1)
    kill_when(start(resume, programs), (output / "source.mp4").exists)
    assert not (output / "metrics.json").exists()
    last = start(resume, programs)
    assert last.communicate(timeout=PATIENCE)[1] is not None and last.returncode == 0
    assert_same_run(output, whole)


def test_killed_at_random_moments(whole, files, programs, tmp_path):
    """Again and again, until it is quicker than that."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # which pytest shows where this fails
    moments = random.Random(seed)
    for name in ("compiling", "undisturbed"):  # the second as quick as those that are to be killed
        seconds = works_for(start(flags(files, tmp_path / name)[0], programs), tmp_path / name)
    killed = 0
    for name in ("first", "second"):
        output = tmp_path / name
        begin, resume = flags(files, output)
        while RunDirectory(output).is_unfinished() or not (output / "config.yaml").exists():
            process = start(resume if RunDirectory(output).is_unfinished() else begin, programs)
            killed += works_for(process, output, moments.uniform(0, seconds)) is None
            assert process.returncode in (0, -signal.SIGKILL)
        assert_same_run(output, whole)
    assert killed > 0


def works_for(process: subprocess.Popen, output: Path, limit: float = PATIENCE) -> float | None:
    """How many seconds ``process`` works in ``output``; None: more than ``limit``, so that it was killed."""
    while not (output / LOCK).exists() or f"process {process.pid} " not in (output / LOCK).read_text():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    started = time.monotonic()
    try:
        process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return time.monotonic() - started
