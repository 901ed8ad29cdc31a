"""Progress bars for long work, with the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A bar named ``what`` on stderr, with ``done`` steps of ``total`` behind it.

    The callback given moves it by one step, whatever its arguments, and so serves as the ``callback`` of the editor's
    methods. Keyword arguments are shown behind the bar.
    """
    with tqdm(total=total, initial=done, desc=f"{what:<14.14}", unit="step", dynamic_ncols=True) as progress:
        progress.set_postfix_str("compiling")

        def advance(*_: object, **shown: float) -> None:
            progress.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
            progress.update()

        yield advance
