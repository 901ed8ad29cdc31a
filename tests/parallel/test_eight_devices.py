"""What eight devices do together equals what one does, for every kind of mesh."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("eight_devices.py")


LONG = [
    pytest.param(part, marks=pytest.mark.processes) for part in ("axes", "mixed", "attention", "rivals", "exchange")
]


@pytest.mark.parametrize("part", ["editing", *LONG])
def test_eight_devices_equal_one(part):
    done = subprocess.run([sys.executable, SCRIPT, part], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") >= 1
