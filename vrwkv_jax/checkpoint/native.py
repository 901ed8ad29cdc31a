"""Our own format on disk: flat parameters as an Orbax checkpoint, in a directory ``params``."""

import gc
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vrwkv_jax.checkpoint.check import check
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError, WriteError
from vrwkv_jax.system.interruption import postponed

Progress = Callable[[int], object]
"""Called with the number of arrays that have been placed since the last call."""

DIRECTORY = "params"
SMALLEST_GROUP = 2**23  # bytes


def is_native(directory: Path) -> bool:
    """Whether ``directory`` holds parameters in our format."""
    return (directory / DIRECTORY).is_dir()


def save(directory: Path, params: Params) -> None:
    """Writes ``directory/params``; Orbax renames it into place when it is complete. An interruption waits for that.

    Raises:
        WriteError: the system does not let it be written (no space, no permission).
    """
    import orbax.checkpoint as ocp  # half a second to import, and models need no disk

    path = directory.absolute() / DIRECTORY
    # What is encoded at a time, in gigabytes: 1/4, or what the largest array takes. Orbax's own limit is 96.
    limit = max(0.25, 1.1e-9 * max((leaf.nbytes for leaf in params.values()), default=0))
    with (
        # Orbax's threads outlive an interruption and end in tracebacks.
        postponed("writing the parameters to their end"),
        _quiet(),
        ocp.Checkpointer(ocp.StandardCheckpointHandler(save_concurrent_gb=limit)) as checkpointer,
    ):
        reason = None
        try:
            checkpointer.save(path, args=ocp.args.StandardSave(params))
        except Exception as error:  # tensorstore and Orbax have no common error of their own
            reason = _reason(error)
        if reason is not None:
            _let_others_end()
            raise WriteError(f"{path} can't be written ({reason}): free space or choose another place")


def restore(
    directory: Path,
    abstract: Params | None = None,
    dtype: Any = None,
    *,
    on_host: bool = False,
    progress: Progress = lambda count: None,
) -> Params:
    """The parameters saved in ``directory/params``: all, or checked against ``abstract`` (path -> what has a shape).

    They lie on the first device of this process, or, ``on_host``, in arrays of numpy. Each of several processes reads
    for itself, and waits for no other.

    Raises:
        UserError: the checkpoint is damaged, or its tensors are not those of ``abstract`` (all are named).
    """
    import orbax.checkpoint as ocp

    path = directory.absolute() / DIRECTORY
    saved = saved_shapes(directory)
    abstract = saved if abstract is None else abstract
    check({p: leaf.shape for p, leaf in abstract.items()}, {p: leaf.shape for p, leaf in saved.items()}, str(path))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    params: Params = {}
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=this, active_processes={this})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with _quiet(), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        for group in _groups(abstract, saved):
            like = {p: jax.ShapeDtypeStruct(saved[p].shape, dtype or saved[p].dtype, sharding=device) for p in group}
            args = ocp.checkpoint_utils.construct_restore_args(like)
            if on_host:
                args = {p: ocp.RestoreArgs(restore_type=np.ndarray, dtype=like[p].dtype) for p in group}
            reason = None
            try:
                restored = checkpointer.restore(path, ocp.args.PyTreeRestore(like, args, partial_restore=True))
                params |= jax.block_until_ready(restored)
            except Exception as error:  # tensorstore and Orbax have no common error of their own for a damaged file
                reason = _reason(error)
            if reason is not None:
                _let_others_end()
                raise _damaged(path, reason)
            progress(len(group))
    return {p: params[p] for p in abstract}


def saved_shapes(directory: Path) -> Params:
    """Path -> shape and dtype of everything saved in ``directory/params``; UserError when it is damaged."""
    import orbax.checkpoint as ocp

    path = directory.absolute() / DIRECTORY
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        try:
            metadata = checkpointer.metadata(path).item_metadata
            if metadata is None:  # Orbax's answer to most kinds of damage
                raise ValueError("its list of arrays is missing or damaged")
            return {p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for p, leaf in metadata.tree.items()}
        except Exception as error:  # as above; and the metadata of another kind of tree has no shapes
            raise _damaged(path, _reason(error)) from error


def _groups(paths: Iterable[str], saved: Mapping[str, Any]) -> Iterator[list[str]]:
    """``paths`` in their order, in groups of about a 32nd of all bytes.

    Orbax decodes all it is asked for at once, into memory of its own; on the other hand, every call takes a while.
    """
    sizes = {path: math.prod(saved[path].shape) * saved[path].dtype.itemsize for path in paths}
    limit = max(SMALLEST_GROUP, sum(sizes.values()) // 32)
    group: list[str] = []
    for path in sizes:
        if group and sum(sizes[p] for p in group) + sizes[path] > limit:
            yield group
            group = []
        group.append(path)
    if group:
        yield group


def _let_others_end() -> None:
    """Reads and writes that are still under way, and those that an error holds, end in complaints of their own.

    Once that error is gone, they get the time to end while nobody listens.
    """
    time.sleep(0.3)
    gc.collect()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what Orbax logs and prints about a damaged checkpoint; the error that follows says it."""
    loggers, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.unraisablehook = hook


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} can't be read as an Orbax checkpoint ({reason}): convert or tune again")


def _reason(error: BaseException) -> str:
    """The system's reason where there is one, or the end of the first line, which begins with long paths."""
    error = error.__cause__ or error  # tensorstore's own words, where Orbax wraps them in a page of settings
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    by_system = re.search(r"os_error_code='(\d+)'", line)
    if by_system:
        return os.strerror(int(by_system[1]))
    return line if len(line) <= 200 else f"...{line[-200:]}"
