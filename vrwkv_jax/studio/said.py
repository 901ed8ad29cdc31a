"""How a mistake is told on the page: the sentence of a ``UserError``, and never a traceback."""

import functools
import warnings
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

import gradio as gr

from vrwkv_jax.system.errors import UserError, printable, settings_spelled

Handler = TypeVar("Handler", bound=Callable[..., Any])
HANDLER: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""How every event of the page is handled."""


def says_mistakes(handler: Handler) -> Handler:
    """``handler`` of an event, whose ``UserError`` becomes a message on the page, and so do its warnings."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        try:
            with (
                settings_spelled(lambda name, value: name.replace("_", " ")),
                warnings.catch_warnings(record=True) as told,
            ):
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                found = handler(*arguments)
        except UserError as error:
            raise gr.Error(escape(printable(error)), duration=15, title="Not yet", print_exception=False) from None
        for warning in told:
            gr.Warning(escape(printable(warning.message)), title="To know")
        return found

    return wrapped  # type: ignore[return-value]
