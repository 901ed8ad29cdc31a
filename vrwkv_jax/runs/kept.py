"""Results of inversion and edits, kept in files until all of them are written."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory, read_arrays, write_arrays
from vrwkv_jax.runs.own import HASH, Names
from vrwkv_jax.typing import Float

RESULTS: Names = {rf"{HASH}\.(npz|npy|crc32)": None}
"""The files of ``Kept``."""

LAYOUT = 3
"""Of what is in the files: those of another are not found. Counted up where results or states hold something else."""

Arrays = dict[str, np.ndarray]


class Kept:
    """Results in ``directory``, each under what it depends on: a result of other settings is never found.

    ``of`` is what all of them depend on. Like it, the names of results are whatever JSON can say.
    """

    def __init__(self, directory: Path, of: object):
        self._directory, self._of = directory, of
        directory.mkdir(parents=True, exist_ok=True)

    def once(self, name: object, make: Callable[[KeptState | None], Arrays]) -> Arrays:
        """The result ``name``, kept before or made now. ``make`` gets the state that it kept before an interruption."""
        path = self._path(name, "npz")
        found = read_arrays(path)
        if found is not None:
            return found
        made = make(KeptState(self._path(["steps of", name], "npz")))
        write_arrays(path, made)
        return made

    def trajectory(self, name: object, source: Float[np.ndarray, "F h w C"], steps: int) -> KeptTrajectory:
        """An inversion of ``source``, as far as it came before an interruption."""
        return KeptTrajectory(self._path(name, "npy"), source, steps)

    def _path(self, name: object, ending: str) -> Path:
        key = hashlib.sha256(json.dumps([LAYOUT, self._of, name]).encode()).hexdigest()[:32]
        return self._directory / f"{key}.{ending}"


def once(kept: Kept | None, name: object, make: Callable[[KeptState | None], Arrays]) -> Arrays:
    """``Kept.once``, where something is kept at all."""
    return make(None) if kept is None else kept.once(name, make)
