"""One run at a time in a directory."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vrwkv_jax.runs.lock import locked
from vrwkv_jax.runs.own import LOCK
from vrwkv_jax.system.errors import UserError

ROOT = Path(__file__).parents[2]
HOLD = "import sys; from vrwkv_jax.runs.lock import locked; from pathlib import Path\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other_run(tmp_path):
    """A process that holds the lock of ``tmp_path``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_keeps_nobody_out(number, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path), locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


LIMITED = "import resource, sys; from vrwkv_jax.runs.lock import LOCK, locked; from pathlib import Path\n"
LIMITED += "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
LIMITED += "with locked(Path(sys.argv[1])): print((Path(sys.argv[1]) / LOCK).stat().st_size)"


def test_a_lock_on_a_full_disk_has_no_words(tmp_path):
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert not (tmp_path / LOCK).exists()


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("vrwkv_jax.runs.lock.no_link", refuse)
    expected = rf"{tmp_path} can't be written \(Read-only file system\): .* another output"
    with pytest.raises(UserError, match=expected), locked(tmp_path):
        pass
