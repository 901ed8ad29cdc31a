"""How every command ends: a user's mistake is one line and status 2, never a traceback."""

import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

from vrwkv_jax.errors import UserError


def run_cli(function: Callable[[], object]) -> int:
    """Run a command and return its exit status: 0, or 2 after a ``UserError``, or 130 after an interruption (Ctrl-C).

    Meanwhile a warning is one line on stderr. Other exceptions are defects of ours and pass through.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            function()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    tqdm.write(f"warning: {' '.join(str(message).split())}", file=file or sys.stderr)  # not into a progress bar
