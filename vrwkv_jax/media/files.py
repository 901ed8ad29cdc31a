"""Files that are either whole or not there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vrwkv_jax.system.errors import UserError, WriteError, not_utf8


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; the file written there takes the name ``path`` when the block succeeds.

    When the block fails, or is interrupted, the temporary file goes away and what was at ``path`` before stays as it
    was. No folder is created.

    Raises:
        UserError: the folder of ``path`` is missing, or ``path`` is a folder.
        WriteError: the system refuses to write there.
    """
    path = Path(path)
    if os.path.isdir(path):  # which, unlike Path.is_dir, is False for a name that is too long
        raise UserError(f"{path} is a folder: give the name of a file to write")
    if not os.path.isdir(path.parent):
        raise UserError(f"{path} cannot be written, for there is no folder {path.parent}: create it or name another")
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # not derived from the name, which may be as long as is allowed
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({error.strerror}): free it or choose another place") from error
    finally:
        part.unlink(missing_ok=True)


def check_place(directory: str | Path, name: str) -> None:
    """Raise ``UserError`` where ``directory`` (called ``name`` in the message) could not be made or written to."""
    directory = Path(directory)
    if not_utf8(str(directory.absolute())):
        raise UserError(f"{name} {directory.absolute()} is not UTF-8 in all of its names: name another directory")
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(existing):
        what = "a file" if os.path.exists(existing) else "a link to what is not there"
        raise UserError(f"{name} {directory} can't be made: {existing} is {what}; name another directory")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{name} {directory} can't be written: {existing} is read-only for you; name another directory")
