"""How much memory something takes at its worst."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

STATUS = Path("/proc/self/status")
LINUX = pytest.mark.skipif(not STATUS.exists(), reason="reads the peak memory from Linux's /proc")


@contextmanager
def peak_memory() -> Iterator[SimpleNamespace]:
    """Yields an object whose ``bytes`` say, after the block, by how much the process grew at most within it.

    It takes a process that did little before: memory that was used and given back since hides what is used again.
    """
    before = _read("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    result = SimpleNamespace(bytes=None)
    yield result
    result.bytes = _read("VmHWM") - before


def _read(key: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))


def output_of(script: str, *arguments: object) -> list[float]:
    """The numbers on the last line that a Python script prints, run in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(number) for number in output.splitlines()[-1].split()]


def whole_peak() -> int:
    """The most bytes that this process has held, files that it maps included; not, as ``getrusage``, its parent's."""
    return _read("VmHWM")
