"""How things are timed: the same for every case."""

import time
from collections.abc import Callable, Iterator
from typing import Any

TOGETHER = 0.02
Rows = list[dict[str, Any]]
Run = Iterator[Rows | None]
"""A case: comes to its first ``yield`` beside others, then has the device for itself, and yields its rows."""


def times(
    call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float = 1.5, least: int = 6
) -> dict[str, float]:
    """Milliseconds of ``call``, whose result ``wait`` waits for: best and median, after two calls that don't count.

    Short calls follow each other ``TOGETHER`` seconds long before the last one is waited for: a device that runs by
    itself is not kept waiting in between, as it would not be in a program. Best and median are of means over them.
    """
    for _ in range(2):
        start = time.perf_counter()
        wait(call())
    in_a_row = max(1, round(TOGETHER / (time.perf_counter() - start)))
    taken: list[float] = []
    while len(taken) < least or (sum(taken) < seconds / in_a_row and len(taken) < 50):
        start = time.perf_counter()
        for _ in range(in_a_row):
            result = call()
        wait(result)
        taken.append((time.perf_counter() - start) / in_a_row)
    taken.sort()
    return {"ms": 1e3 * taken[0], "median_ms": 1e3 * taken[len(taken) // 2], "runs": len(taken) * in_a_row}
