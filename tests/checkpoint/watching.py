"""What Python does within a block that no reading of a file should do: run code, import, start programs."""

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FORBIDDEN = ("compile", "ctypes.", "exec", "import", "marshal.", "os.", "pickle.", "shutil.", "socket.", "subprocess.")
HARMLESS = ("os.listdir", "os.scandir")

_events: list[str] | None = None


@contextmanager
def watching() -> Iterator[list[str]]:
    """Yields the list of what is done, by the names of https://docs.python.org/3/library/audit_events.html."""
    global _events
    _events = []
    try:
        yield _events
    finally:
        _events = None


def _note(event: str, arguments: tuple) -> None:
    if _events is not None and event.startswith(FORBIDDEN) and event not in HARMLESS:
        _events.append(f"{event} {str(arguments)[:100]}")


codecs.lookup(
    "raw_unicode_escape"
)  # Python's own, which an operation of pickles is written in, imported when it is used
sys.addaudithook(_note)  # for as long as this process lives: it can't be taken off
