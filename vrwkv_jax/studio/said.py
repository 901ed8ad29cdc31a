"""How a mistake is told on the page: the sentence of a ``UserError``, and never a traceback."""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any, TypeVar

import gradio as gr

from vrwkv_jax.system.errors import UserError, printable, settings_spelled

Handler = TypeVar("Handler", bound=Callable[..., Any])
HANDLER: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""How every event of the page is handled."""
_warned: ContextVar[list[str] | None] = ContextVar("_warned", default=None)
"""Of the event that is handled."""


def says_mistakes(handler: Handler) -> Handler:
    """``handler`` of an event, whose ``UserError`` becomes a message on the page, and so do its warnings."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        warned: list[str] = []
        token = _warned.set(warned)
        try:
            found = handler(*arguments)
        except UserError as error:
            raise gr.Error(escape(printable(error)), duration=15, title="Not yet", print_exception=False) from None
        finally:
            _warned.reset(token)
        for message in dict.fromkeys(warned):
            gr.Warning(escape(printable(message)), title="To know")
        return found

    return wrapped  # type: ignore[return-value]


@contextmanager
def messages_for_the_page() -> Iterator[None]:
    """In this block settings have the names of the page, and a warning goes to the event that it came up in."""

    def collect(message: Warning | str, category: type[Warning], *where: Any, **other: Any) -> None:
        warned = _warned.get()
        if warned is None:
            shown(message, category, *where, **other)
        elif issubclass(category, UserWarning):
            warned.append(str(message))

    with warnings.catch_warnings(), settings_spelled(lambda name, value: name.replace("_", " ")):
        warnings.simplefilter("always", UserWarning)
        shown, warnings.showwarning = warnings.showwarning, collect
        yield
