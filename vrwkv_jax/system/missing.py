"""Packages that are installed, and not to be imported by others."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def missing(name: str) -> Iterator[None]:
    """Who imports the package ``name`` meanwhile is told that it is not installed, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # which the import system documents
    try:
        yield
    finally:
        del sys.modules[name]
