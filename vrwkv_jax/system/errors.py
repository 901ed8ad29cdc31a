"""The one error a user's mistake ends in."""

import errno
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of controls, lone surrogates, line and paragraph separators
BIDIRECTIONAL = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LONGEST = 60  # characters of a value that an error quotes
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class UserError(ValueError):
    """Something the user gave is wrong: a path, a file's contents, a value.

    The message is one sentence that names the thing, the value found, what was expected and what to do. The command
    lines print it without a traceback and exit with status 2; a notebook sees it as an ordinary ``ValueError``.
    """


class WriteError(UserError):
    """The system refused to write (no space, no permission). When that is mended, the same may go on."""


def _in_python(name: str, value: object) -> str:
    return name if value is None else f"{name}={value!r}"


_spelled: Callable[[str, object], str] = _in_python


def setting(name: str, value: object = None) -> str:
    """What a message calls the setting ``name``, or the setting with a ``value`` that it advises.

    That is ``remat`` and ``remat=True``, or, while a command runs, its flag: ``--remat``.
    """
    return _spelled(name, value)


@contextmanager
def settings_spelled(how: Callable[[str, object], str]) -> Iterator[None]:
    """In this block ``setting`` gives what ``how`` does, in every thread: errors come from those that compile, too."""
    global _spelled
    before, _spelled = _spelled, how
    try:
        yield
    finally:
        _spelled = before


def printable(text: object) -> str:
    """``text`` with what commands a terminal, breaks the line or turns the writing round as an escape (``\\x1b``).

    Names of files and what stands in them go through here before they are printed.
    """
    return "".join(_escaped(c) if unicodedata.category(c) in UNSEEN or c in BIDIRECTIONAL else c for c in str(text))


def not_utf8(text: str) -> bool:
    """Whether ``text`` came from bytes that are no UTF-8, as names of files of other systems may be."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def quoted(value: object, plain: bool = False) -> str:
    """``value`` as an error quotes it: as Python writes it, or ``plain``, and cut where it is long."""
    text = value if plain and isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


@contextmanager
def write_errors(directory: Path) -> Iterator[None]:
    """Makes a ``WriteError`` of what the system says where it refuses a write, most likely one in ``directory``."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise WriteError(f"{error.filename or directory} can't be written ({error.strerror}): make room") from error
