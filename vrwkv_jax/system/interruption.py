"""Ctrl-C and SIGTERM as exceptions: at once, or after a block that must not be interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vrwkv_jax.system.errors import printable
from vrwkv_jax.system.reporter import process_reporter


class Terminated(KeyboardInterrupt):
    """SIGTERM came: an interruption like Ctrl-C, but for the exit status."""


EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@dataclass
class Postponed:
    """The interruption that came in the block, if one did. ``end`` ends the block early, at a good place."""

    signal: int | None = None

    def end(self) -> None:
        """Raises the interruption, if one came."""
        if self.signal is not None:
            raise EXCEPTIONS[signal.Signals(self.signal)]


_outermost: Postponed | None = None


@contextmanager
def postponed(until: str) -> Iterator[Postponed]:
    """Postpones Ctrl-C and SIGTERM to the end of the block; a second one takes effect at once.

    ``until`` says what is waited for; the process's reporter is told. Within another such block, and in threads other
    than the main one, this does nothing.
    """
    global _outermost
    if _outermost is not None or threading.current_thread() is not threading.main_thread():
        yield _outermost or Postponed()
        return
    pending = Postponed()

    def handler(number: int, frame: Any) -> None:
        if pending.signal is not None:
            raise EXCEPTIONS[signal.Signals(number)]
        pending.signal = number
        # On a line of its own: terminals show ^C.
        process_reporter().say(f"\ninterrupted: {printable(until)} (Ctrl-C again stops at once)")

    heeded = [number for number in EXCEPTIONS if signal.getsignal(number) is not signal.SIG_IGN]  # not under nohup
    _outermost, previous = pending, {number: signal.signal(number, handler) for number in heeded}
    try:
        yield pending
    finally:
        _outermost = None
        for number, earlier in previous.items():
            signal.signal(number, earlier)
    if pending.signal is not None:
        signal.raise_signal(pending.signal)


@contextmanager
def termination_raises() -> Iterator[None]:
    """In this block SIGTERM raises ``Terminated``."""

    def handler(number: int, frame: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
