"""Row-calls: how often the U-Net is asked for one row, which is all frames of a clip under one prompt.

What inversion and edits cost, whatever the machine.
"""

from collections import Counter
from collections.abc import Mapping

RowCalls = Counter[str]
"""Stage of a run -> its row-calls. Each stage adds its own, those before an interruption included."""


def in_words(row_calls: Mapping[str, int]) -> str:
    """One line for who has waited for them."""
    stages = ", ".join(f"{stage} {count}" for stage, count in row_calls.items())
    return f"{sum(row_calls.values())} row-calls ({stages})"
