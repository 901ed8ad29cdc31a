"""One run at a time in a directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vrwkv_jax.runs.own import LOCK, no_link
from vrwkv_jax.system.errors import UserError, setting


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other runs out of ``directory``, which exists; a process that is killed leaves no lock.

    Where the file system knows no locks, nobody is kept out.

    Raises:
        UserError: another run is in there, or the system does not let files be made there.
    """
    path = directory / LOCK
    file = _locked_file(path)
    try:
        with suppress(OSError):  # on a full disk a lock without words must do
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        with suppress(OSError):
            if _is_at(file, path):  # not that of a run that took the directory's name
                path.unlink()
        file.close()


def is_in_use(directory: Path) -> bool:
    """Whether a run is at work in ``directory``, which is left as it is."""
    return is_locked(directory / LOCK)


def is_locked(path: Path) -> bool:
    """Whether some process holds a lock on the file, which need not be there."""
    try:
        with open(path, "rb", opener=no_link) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked_file(path: Path) -> IO[bytes]:
    while True:
        try:
            file = open(path, "a+b", buffering=0, opener=no_link)  # noqa: SIM115 - closed by who locks
        except OSError as error:
            raise UserError(
                f"{path.parent} can't be written ({error.strerror}): make room there, make it writable, or name "
                f"another {setting('output')}"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode().strip()
            file.close()
            raise UserError(
                f"{path.parent} is in use by another run ({owner}): wait for its end, or name another "
                f"{setting('output')}"
            ) from None
        except OSError:  # ENOSYS, ENOLCK and others: no locks on this file system
            return file
        if _is_at(file, path):
            return file
        file.close()  # its run ended between the two lines


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether ``path`` still leads to the open ``file``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
