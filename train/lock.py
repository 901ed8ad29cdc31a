"""One run at a time in a directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vrwkv_jax.errors import UserError

LOCK = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other runs out of ``directory``, which exists; a process that is killed leaves no lock.

    Raises:
        UserError: another run is in there.
    """
    path = directory / LOCK
    file = _locked_file(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        if _is_at(file, path):  # not that of a run that took the directory's name
            path.unlink()
        file.close()


def _locked_file(path: Path) -> IO[str]:
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise UserError(
                f"{path.parent} is in use by another run ({owner}): wait for its end, or name another --output"
            ) from None
        if _is_at(file, path):
            return file
        file.close()  # its run ended between the two lines


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether ``path`` still leads to the open ``file``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
