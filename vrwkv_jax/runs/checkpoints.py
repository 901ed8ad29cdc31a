"""The states of a tuning on disk: the last two, each whole or not there."""

import json
import re
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.models.params import Params
from vrwkv_jax.parallel.hosts import largest, on_first
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.runs import own
from vrwkv_jax.runs.own import Names
from vrwkv_jax.system.errors import UserError, WriteError, setting
from vrwkv_jax.tuning.state import TuningState

LAST = 2
STATE = "state.json"
CHECKPOINT: Names = {**own.ARRAYS, re.escape(STATE): None}
CHECKPOINTS: Names = {r"step-\d{6,}|\.step-\d{6,}\.part": CHECKPOINT}
"""The files of ``Checkpoints``."""


class Checkpoints:
    """Checkpoints in ``directory``, one folder for each: ``params/`` (Orbax), and ``state.json`` with the step and with
    ``about``, what else there is to know of the run.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    @property
    def steps(self) -> list[int]:
        """Whose states are there, damaged ones included, the oldest first."""
        names = (re.fullmatch(r"step-(\d{6,})", path.name) for path in self.directory.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, state: TuningState, about: dict[str, Any]) -> None:
        """Saves ``state``, and then removes the oldest checkpoint.

        Raises:
            WriteError: it can't be written; those before it are as they were.
        """
        path = self._path(state.step)
        part = path.with_name(f".{path.name}.part")
        arrays = _arrays(state)
        known = {"step": state.step, **about, "crc32": checksums(arrays)}

        def prepare() -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in self.directory.glob(".step-*.part"):
                own.remove(left, CHECKPOINT)

        def put_in_place() -> None:
            (part / STATE).write_text(json.dumps(known, indent=1) + "\n")
            own.remove(path, CHECKPOINT)
            part.rename(path)
            for step in [step for step in self.steps if step <= state.step][:-LAST]:  # later ones are damaged
                own.remove(self._path(step), CHECKPOINT)

        try:
            on_first(prepare)
            native.save(part, arrays)
            on_first(put_in_place)
        except (UserError, OSError) as error:
            with suppress(OSError):
                own.remove(part, CHECKPOINT)
            whole = f"the checkpoint of step {self.steps[-1]} is whole" if self.steps else "there is none before it"
            reason = error.strerror if isinstance(error, OSError) else str(error).replace(str(part), str(path))
            raise WriteError(f"the checkpoint of step {state.step} was not written ({reason}); {whole}") from error

    def about(self) -> dict[str, Any] | None:
        """What was saved with the newest checkpoint of which that can be read, or None."""
        for step in reversed(self.steps):
            try:
                return read_json(self._path(step) / STATE)
            except UserError:  # damaged, as ``newest`` will say
                continue
        return None

    def newest(self, like: TuningState) -> TuningState | None:
        """The newest state that is whole, or None where there are no checkpoints. ``like`` has its shapes.

        Its arrays are numpy's: on which devices they go, and in which pieces, is for the tuning to say.

        A damaged one is passed over with a warning, and stays until the run comes to its step again.

        Raises:
            UserError: all are damaged.
        """
        damaged: dict[int, UserError] = {}
        state = self._newest(like, damaged)
        # A process may find damaged what others can read: all resume from the newest state that every one of them has.
        while largest(step := state.step if state else 0) > (agreed := -largest(-step)):
            if state is not None and state.step > agreed:
                damaged[state.step] = UserError("another process can't read it")
                state = self._newest(like, damaged)
        if state is None:
            if largest(len(damaged)) == 0:
                return None
            reasons = "; ".join(map(str, damaged.values()))
            remedy = f"start again with {setting('overwrite', True)}"
            raise UserError(f"every checkpoint in {self.directory} is damaged: {remedy} ({reasons})")
        for step, reason in damaged.items():
            warnings.warn(
                f"the checkpoint of step {step} is damaged, so that of step {state.step} is taken instead ({reason})",
                stacklevel=2,
            )
        return state

    def _newest(self, like: TuningState, damaged: dict[int, UserError]) -> TuningState | None:
        """The newest state that this process can read, but for those in ``damaged``, to which it adds what it can't."""
        for step in reversed(self.steps):
            try:
                if step not in damaged:
                    return self._restore(step, like)
            except UserError as error:
                damaged[step] = error
        return None

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:06}"

    def _restore(self, step: int, like: TuningState) -> TuningState:
        path = self._path(step)
        wanted = read_json(path / STATE).get("crc32")
        arrays = native.restore(path, _arrays(like), on_host=True)
        if not isinstance(wanted, dict):
            raise UserError(f"{path / STATE} has no checksums")
        wrong = [name for name, found in checksums(arrays).items() if wanted.get(name) != found]
        if wrong:
            raise UserError(f"{path} holds other numbers than were written, in {wrong[0]} ({len(wrong)} such)")
        leaves = [arrays[f"optimizer/{index}"] for index in range(len(jax.tree.leaves(like.optimizer)))]
        tuned = {name: arrays[f"tuned/{name}"] for name in like.tuned}
        return TuningState(step, tuned, jax.tree.unflatten(jax.tree.structure(like.optimizer), leaves))


def checksums(arrays: Params) -> dict[str, int]:
    """The CRC-32 of each array's bytes."""
    return {name: zlib.crc32(np.ascontiguousarray(to_host(array)).data) for name, array in arrays.items()}


def _arrays(state: TuningState) -> Params:
    tuned = {f"tuned/{path}": leaf for path, leaf in state.tuned.items()}
    return tuned | {f"optimizer/{index}": leaf for index, leaf in enumerate(jax.tree.leaves(state.optimizer))}
