"""How every command ends: a user's mistake is one line and status 2, never a traceback."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.parallel.devices import check_environment
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.system.interruption import Terminated, termination_raises
from vrwkv_jax.system.reporter import reporting_to


def run_module(name: str) -> int:
    """``run_cli`` of ``main`` in the module ``name``, whose imports take seconds and are part of the command.

    Where something is still being compiled when the command ends, so does the process, at once.
    """

    def command() -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that does not know every letter
        check_environment()
        importlib.import_module(name).main()

    status = run_cli(command)
    compiling = sys.modules.get("vrwkv_jax.system.compiling")  # not where the command ended before it was imported
    if compiling is not None and compiling.in_progress():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def run_cli(function: Callable[[], object]) -> int:
    """Run a command and return its exit status: 0; 2 after a ``UserError``; 130 after Ctrl-C and 143 after SIGTERM.

    141, silently, where nobody reads the output any more, as behind ``| head``. In the command a warning is one line
    on stderr, and waiting is told there. Other exceptions are defects of ours and pass through.
    """
    with warnings.catch_warnings(), termination_raises(), reporting_to(TERMINAL):
        warnings.showwarning = _show_warning
        try:
            try:
                function()
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # which would else fail after all, with a complaint of Python's
        except BrokenPipeError:
            _say_no_more()
            return 141
        except UserError as error:
            print("error: " + "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)
            return 2
        except KeyboardInterrupt as interruption:
            print(": ".join(["interrupted", *map(printable, interruption.args)]), file=sys.stderr)
            return 143 if isinstance(interruption, Terminated) else 130
    return 0


def _say_no_more() -> None:
    """Discards what is still to be written to stdout or stderr."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    TERMINAL.say("warning: " + printable(" ".join(str(message).split())))
