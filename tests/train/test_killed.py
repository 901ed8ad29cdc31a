"""A process that is killed without warning, again and again, ends in the same run as one that is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.train.runs import EDITS, STEPS, TINY, assert_same_run

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


def kill_when(process: subprocess.Popen, moment: Callable[[], bool], delay: float = 0.0) -> None:
    """Kills ``process`` at ``moment``; it must not have ended before."""
    until = time.monotonic() + PATIENCE
    while not moment():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_killed_and_resumed(whole, files, tmp_path):
    """While a checkpoint is written, at some moment of the tuning, and in the inversion."""
    output, cache = tmp_path / "run", tmp_path / "cache"
    begin = [*files, *TINY, *EDITS, *STEPS, "--checkpoint-every", "1", "--output", str(output)]
    resume = ["--output", str(output), "--resume"]
    log, unfinished = output / "log.jsonl", output / "unfinished"

    def logged(steps: int) -> bool:
        return log.exists() and log.read_text().count("\n") >= steps

    kill_when(start(begin, cache), lambda: logged(2) and any(unfinished.glob(".step-*.part")))
    assert unfinished.is_dir() and not (output / "tuned").exists()
    kill_when(start(resume, cache), lambda: logged(3), delay=random.Random().uniform(0, 0.3))
    kill_when(start(resume, cache), lambda: any(path.read_text() for path in unfinished.glob("edits/*.crc32")))
    last = start(resume, cache)
    assert last.communicate(timeout=PATIENCE)[1] is not None and last.returncode == 0
    assert_same_run(output, whole)
