"""Processes that get ready beside each other, and then take turns."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from benchmarks.gpu.cases import SECONDS, Case
from benchmarks.gpu.timing import Rows
from benchmarks.gpu.worker import READY

COMPILED = os.path.join(tempfile.gettempdir(), "vrwkv-gpu-benchmark")
WORKER = [sys.executable, "-m", "benchmarks.gpu.worker"]


class Turn:
    """A case's process."""

    def __init__(self, case: Case, deadline: float):
        self.case, self.deadline, self.left = case, deadline, float(SECONDS[case["part"]])
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by end)
        # What has run out of time goes on from what it has compiled; the job's commands have a cache of their own.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_COMPILATION_CACHE_DIR": COMPILED}
        if case["part"] == "job":
            del environment["JAX_COMPILATION_CACHE_DIR"]
        self.process = subprocess.Popen(
            [*WORKER, json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
            start_new_session=True,  # for what it has started to end with it
        )

    def get_ready(self) -> bool:
        """Whether it is."""
        return self._line() == READY

    def take(self) -> Rows | str:
        """Its rows, or why there are none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.error()
        line = self._line()
        return json.loads(line) if line else self.error()

    def error(self) -> str:
        """The last line that the process said, once it has ended."""
        self.kill()
        self.process.wait()
        if self.left <= 0 or time.monotonic() >= self.deadline:
            return "took longer than it may"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1][:200] if lines else f"ended with {self.process.returncode}"

    def kill(self) -> None:
        if self.process.returncode is None:  # else another may have its number by now
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        self.process.communicate()
        self.errors.close()

    def _line(self) -> str:
        """What it prints next; nothing if it ends before, or is ended as its time is over."""
        assert self.process.stdout is not None
        started = time.monotonic()
        timer = threading.Timer(max(0.0, min(self.left, self.deadline - started)), self.kill)
        timer.start()
        while (line := self.process.stdout.readline().strip()) and line != READY and not line.startswith("["):
            pass  # what libraries print
        timer.cancel()
        self.left -= time.monotonic() - started
        return line


def in_turns(cases: list[Case], deadline: float) -> Iterator[tuple[Case, Rows | str]]:
    """Every case with its rows, or with why it has none; all of them get ready before the first takes its turn.

    ``deadline`` is of ``time.monotonic()``: what runs then ends.
    """
    turns = [Turn(case, deadline) for case in cases]
    try:
        with ThreadPoolExecutor(len(turns)) as pool:
            ready = list(pool.map(Turn.get_ready, turns))
        for turn, is_ready in zip(turns, ready, strict=True):
            result: Any = turn.take() if is_ready else turn.error()
            turn.end()
            yield turn.case, result
    finally:  # Ctrl-C does not reach them
        for turn in turns:
            turn.kill()
