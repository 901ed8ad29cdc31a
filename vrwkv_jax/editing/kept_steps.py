"""What inversion and sampling have come to, on disk: so that an interruption costs no more than a few steps."""

import itertools
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from vrwkv_jax.media.files import replacing
from vrwkv_jax.typing import Array, Float

SECONDS = 20.0  # of sampling that an interruption may cost, so that quick steps are not slowed down by writing


class KeptTrajectory:
    """A trajectory in a file that keeps every step as soon as it is done, so that an interruption loses none.

    ``trajectory`` is mapped to ``path``, an array of numpy; ``done`` counts the steps in it, ``row_calls`` what they
    have cost. Beside it stands a file with a checksum and the row-calls of each entry, the clip's own included.
    """

    def __init__(self, path: Path, source: Float[np.ndarray, "F h w C"], num_inference_steps: int):
        self._sums = path.with_suffix(".crc32")
        shape = (num_inference_steps + 1, *source.shape)
        sums = self._sums.read_text().splitlines() if self._sums.is_file() else []
        found, entries = _existing(path, shape), 0
        if found is not None and np.array_equal(found[0], source):
            matches = (_is_of(entry, line) for entry, line in zip(found, sums, strict=False))
            entries = len(list(itertools.takewhile(bool, matches)))
        self._sums.write_text("".join(f"{line}\n" for line in sums[:entries]))
        self.row_calls = sum(int(line.split()[1]) for line in sums[:entries])
        if found is not None and entries > 0:
            self.trajectory, self.done = found, entries - 1
            return
        self.trajectory = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        with path.open("r+b") as file:
            reserve(file, path.stat().st_size)
        self.trajectory[0] = source
        self.keep(0, 0)

    def keep(self, step: int, row_calls: int) -> None:
        """The entry of ``step`` is filled, which has cost so many."""
        self.trajectory.flush()
        with self._sums.open("a") as file:
            file.write(f"{zlib.crc32(self.trajectory[step])} {row_calls}\n")
        self.done = step
        self.row_calls += row_calls


class KeptState:
    """The arrays that one step of sampling hands to the next, in the file ``path``; ``step`` steps have been done."""

    def __init__(self, path: Path):
        self._path, self._written = path, time.monotonic()
        self.step, self.arrays = 0, list[np.ndarray]()
        found = read_arrays(path)
        if found is not None and "step" in found:
            self.step = int(found.pop("step"))
            self.arrays = list(found.values())

    def keep(self, step: int, arrays: Sequence[Array]) -> None:
        """Writes them if the last time was a while ago."""
        if time.monotonic() - self._written < SECONDS:
            return
        named = {f"array{index}": np.asarray(array) for index, array in enumerate(arrays)}
        write_arrays(self._path, {"step": np.array(step), **named})
        self._written = time.monotonic()


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What ``write_arrays`` has put into ``path``; None where it is not there, or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error):
        return None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts ``arrays`` into the file ``path``, which is whole or not there."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def reserve(file: IO[bytes], size: int) -> None:
    """Gives a file the space for its holes now: on a full disk, filling them through a mapping ends the process.

    Raises:
        OSError: there is no such space.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file.fileno(), 0, size)


def _is_of(entry: Any, line: str) -> bool:
    """Whether ``line`` has the checksum of ``entry``, and its row-calls."""
    checksum, _, row_calls = line.partition(" ")
    return checksum == str(zlib.crc32(entry)) and row_calls.isdecimal()


def _existing(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The array of ``shape`` in ``path``, or None where there is no such thing."""
    try:
        found = np.lib.format.open_memmap(path, "r+")
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None
