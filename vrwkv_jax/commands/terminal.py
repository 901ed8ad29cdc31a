"""What a command shows on stderr: messages, progress bars, and what it waits for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Terminal:
    """The reporter of the commands. Where stderr is no terminal, lines are whole, and written once."""

    def say(self, message: str) -> None:
        tqdm.write(message, file=sys.stderr)  # not into a progress bar

    @contextmanager
    def stage(self, what: str, total: int, done: int = 0, unit: str = "step") -> Iterator[Callable[..., None]]:
        with tqdm(total=total, initial=done, desc=f"{what:<14.14}", unit=unit, dynamic_ncols=True) as progress:
            if unit == "step":
                progress.set_postfix_str("compiling")  # of which the first consists

            def advance(*_: object, **shown: float) -> None:
                progress.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
                progress.update()

            yield advance

    @contextmanager
    def waiting(self, what: str, since: float) -> Iterator[Callable[[], object]]:
        """On a terminal a line counts the seconds, elsewhere it is written twice."""

        def line() -> str:
            return f"{what} ... {time.perf_counter() - since:.0f} s"

        if sys.stderr.isatty():
            with tqdm(bar_format="{desc}", leave=False) as counting:
                yield lambda: counting.set_description_str(line())
        else:
            self.say(f"{what} ...")
            yield lambda: None
        self.say(line())


TERMINAL = Terminal()
