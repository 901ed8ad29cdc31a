"""Row-calls: how often the U-Net is asked for one row, which is all frames of a clip under one prompt.

What inversion and edits cost, whatever the machine. Where the shallow blocks alone are asked (``--cache-interval``), a
row counts as the share of a whole one's operations.
"""

from collections.abc import Mapping


class RowCalls(dict[str, int | float]):
    """Stage of a run -> its row-calls, 0 at first. Each stage adds its own, those before an interruption included."""

    def __missing__(self, stage: str) -> int:
        return 0


def in_words(row_calls: Mapping[str, int | float]) -> str:
    """One line for who has waited for them."""
    stages = ", ".join(f"{stage} {_rounded(count)}" for stage, count in row_calls.items())
    return f"{_rounded(sum(row_calls.values()))} row-calls ({stages})"


def _rounded(count: int | float) -> str:
    return f"{count:.1f}".removesuffix(".0")
