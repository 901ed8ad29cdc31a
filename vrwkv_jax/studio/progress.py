"""How far a command has come, and what it says: read from what it prints while it runs."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from vrwkv_jax.system.errors import printable

TAIL = 2**16
"""Bytes at the end of what was printed that are looked at."""
_BAR = re.compile(r"([\w -]+?) *: +\d+%\|[^|]*\| *(\d+)/(\d+) \[[\d:]+<([\d:?]+)")  # tqdm's
_NOT_SAID = re.compile(r"(error|warning|interrupted)\b|Traceback|\s")


@dataclass(frozen=True)
class Progress:
    """What a command has printed, taken apart."""

    stage: str | None = None
    """What it is at, such as "tuning"."""
    done: int = 0
    total: int = 0
    """Steps of the stage."""
    left: str | None = None
    """Time that the stage still takes, as 01:30."""
    said: str | None = None
    """Its last message."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """The sentence that it ended with, where it did."""
    interrupted: bool = False
    """Whether it says that it was stopped."""

    @property
    def share(self) -> float:
        """Of the stage, 0 to 1."""
        return self.done / self.total if self.total else 0.0


def read_progress(log: Path) -> Progress:
    """The progress of the command whose stdout and stderr are in ``log``; nothing where there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return Progress()
    return parse_progress(text)


def parse_progress(text: str) -> Progress:
    """``text`` may begin in the middle of a line."""
    bar, said, warnings, error, interrupted = None, None, list[str](), None, False
    lines = re.split(r"[\r\n]+", text)
    for index, line in enumerate(lines):
        if found := _BAR.match(line):
            bar, said = found, None
        elif line.startswith("error: "):
            rest = [line.removeprefix("error: ")]
            for more in lines[index + 1 :]:  # of several mistakes, each has a line that is indented
                if not more.startswith("  "):
                    break
                rest.append(more.strip())
            error = " ".join(rest)
        elif line.startswith("warning: "):
            warnings.append(printable(line.removeprefix("warning: ")))
        elif line.startswith("interrupted") and not line.startswith("interrupted: finishing"):
            interrupted = True
        elif line.startswith("Traceback "):
            last = next((one for one in reversed(lines) if one.strip()), "")
            error = f"it ended with a defect of ours ({last.strip()})"
            break
        elif line and not _NOT_SAID.match(line):
            said = line
    progress = Progress(
        said=None if said is None else printable(said),
        warnings=tuple(dict.fromkeys(warnings)),
        error=None if error is None else printable(error),
        interrupted=interrupted,
    )
    if bar is None:
        return progress
    stage, done, total, left = bar.groups()
    return replace(progress, stage=stage.strip(), done=int(done), total=int(total), left=None if "?" in left else left)
