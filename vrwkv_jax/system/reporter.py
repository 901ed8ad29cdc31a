"""Who is told how long work comes on: commands bring a reporter, the library itself prints nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Tells somebody how the work comes on."""

    def say(self, message: str) -> object:
        """One or more whole lines of text, ready to be printed."""
        ...

    def stage(
        self, what: str, total: int, done: int = 0, unit: str = "step"
    ) -> AbstractContextManager[Callable[..., None]]:
        """Shows a stage of ``total`` steps, with ``done`` of them behind it, until the block ends.

        The callable given moves it on by one step, whatever its arguments, and so serves as the ``callback`` of the
        editor's methods. It shows its keyword arguments, which are numbers.
        """
        ...

    def waiting(self, what: str, since: float) -> AbstractContextManager[Callable[[], object]]:
        """Shows that the program waits for ``what``, until the block ends.

        ``since`` is the ``time.perf_counter()`` at which the waiting began. The callable given is to be called now and
        then, to show the time that has passed.
        """
        ...


class Silent:
    """Tells nobody."""

    def say(self, message: str) -> None:
        pass

    def stage(
        self, what: str, total: int, done: int = 0, unit: str = "step"
    ) -> AbstractContextManager[Callable[..., None]]:
        return nullcontext(lambda *_, **__: None)

    def waiting(self, what: str, since: float) -> AbstractContextManager[Callable[[], object]]:
        return nullcontext(lambda: None)


SILENT = Silent()
_of_the_process: Reporter = SILENT


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """In this block ``reporter`` is that of the process, in all threads."""
    global _of_the_process
    before, _of_the_process = _of_the_process, reporter
    try:
        yield
    finally:
        _of_the_process = before


def process_reporter() -> Reporter:
    """The reporter for what concerns the whole process and has no caller to ask: compiling, and interruptions."""
    return _of_the_process
