"""One run at a time in a directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from train.lock import LOCK, locked
from vrwkv_jax.errors import UserError

HOLD = "import sys; from train.lock import locked; from pathlib import Path\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other_run(tmp_path):
    """A process that holds the lock of ``tmp_path``."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_until_the_first_is_dead(other_run, tmp_path):
    expected = rf"{tmp_path} is in use by another run \(process {other_run.pid} on .*\): wait for its end"
    with pytest.raises(UserError, match=expected), locked(tmp_path):
        pass
    other_run.kill()
    other_run.wait()
    assert (tmp_path / LOCK).exists()  # stale
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_run_that_took_the_name_stays(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    with locked(directory):
        directory.rename(tmp_path / "old")
        directory.mkdir()
        with locked(directory):
            pass
        (directory / LOCK).write_text("of the next run")
    assert (directory / LOCK).read_text() == "of the next run"
