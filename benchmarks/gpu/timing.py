"""How things are timed: the same for every case."""

import time
from collections.abc import Callable, Iterator
from typing import Any

Rows = list[dict[str, Any]]
Run = Iterator[Rows | None]
"""A case: comes to its first ``yield`` beside others, then has the device for itself, and yields its rows."""


def times(
    call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float = 1.5, least: int = 6
) -> dict[str, float]:
    """Milliseconds of ``call``, whose result ``wait`` waits for: best and median, after two calls that don't count."""
    for _ in range(2):
        wait(call())
    taken: list[float] = []
    while len(taken) < least or (sum(taken) < seconds and len(taken) < 50):
        start = time.perf_counter()
        wait(call())
        taken.append(time.perf_counter() - start)
    taken.sort()
    return {"ms": 1e3 * taken[0], "median_ms": 1e3 * taken[len(taken) // 2], "runs": len(taken)}
