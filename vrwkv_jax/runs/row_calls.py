"""Row-calls: how often the U-Net is asked for one row, which is all frames of a clip under one prompt.

What inversion and edits cost, whatever the machine. Where the shallow blocks alone are asked (``--cache-interval``), a
row counts as the share of a whole one's operations.

A long run asks for a few frames of a row at a time, and these count as their share of the clip's frames: those that
fill up the last chunk, too, for they cost as much as any. So a row of a clip of 100 frames in chunks of 16 is 1.12
row-calls. Streaming's sweep back over a chunk, which asks the encoder alone, counts as the share of the operations that
it has of the chunk's. AdaFlow's keyframes count beside the frames that take from them; what it finds its clips by, once
for all edits, is the stage "features".
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
