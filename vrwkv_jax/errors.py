"""The one error a user's mistake ends in."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class UserError(ValueError):
    """Something the user gave is wrong: a path, a file's contents, a value.

    The message is one sentence that names the thing, the value found, what was expected and what to do. The command
    lines print it without a traceback and exit with status 2; a notebook sees it as an ordinary ``ValueError``.
    """


class WriteError(UserError):
    """The system refused to write (no space, no permission). When that is mended, the same may go on."""


@contextmanager
def write_errors(directory: Path) -> Iterator[None]:
    """Makes a ``WriteError`` of what the system says where it refuses a write, most likely one in ``directory``."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise WriteError(f"{error.filename or directory} can't be written ({error.strerror}): make room") from error
