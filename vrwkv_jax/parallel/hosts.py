"""One run on several hosts: who the others are, and who writes."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

import jax
import numpy as np

from vrwkv_jax.system.errors import UserError, WriteError, setting

Told = TypeVar("Told", None, bool, str)

# What launchers tell each process they start: how many there are, and which one it is; and the same on its host.
KUBERNETES = ("JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX", "", "")  # an indexed job, which itself says only which one
LAUNCHERS = (
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"),  # torchrun; Kubernetes' operators: the first two
    KUBERNETES,
)


def join_hosts(coordinator: str | None, environment: Mapping[str, str] = os.environ) -> None:
    """Lets the processes that a launcher has started find each other; nothing happens where there is one process.

    The only one on its host takes all of its devices; of several there, each takes the one with its number.

    Args:
        coordinator: ``HOST:PORT`` of process 0; None: ``JAX_COORDINATOR_ADDRESS``, ``MASTER_ADDR`` and
            ``MASTER_PORT``, or, under Slurm and Open MPI, what JAX finds out itself.
        environment: where launchers say how many processes there are, and which one this is.

    Raises:
        UserError: they don't say it although there is a coordinator, or only say which one this is; or the processes
            can't be reached.
    """
    count, index, devices = _place_in_launch(environment)
    named = f"{setting('coordinator')} {coordinator}" if coordinator else "JAX_COORDINATOR_ADDRESS"
    if count is None and coordinator is None and not environment.get("JAX_COORDINATOR_ADDRESS"):
        return
    if count is None:
        raise UserError(
            f"{named} is given, but no launcher says how many processes there are and which one this is: start them "
            "with srun, mpirun or torchrun, or set WORLD_SIZE and RANK for each"
        )
    if count == 1:
        return
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is for vrwkv_jax.system.interruption
    master = environment.get("MASTER_ADDR")
    address = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    address = address or (f"{master}:{environment.get('MASTER_PORT', '12345')}" if master else None)
    try:
        jax.distributed.initialize(address, count, index, devices)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"process {index} of {count} can't join the others at {address or 'an address that JAX finds'} ({reason}): "
            f"name process 0 with {setting('coordinator', 'HOST:PORT')}"
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes videos and logs, and speaks to the user."""
    return _is_alone() or jax.process_index() == 0


def check_alone(what: str) -> None:
    """Raises UserError where several processes do ``what``."""
    if not _is_alone() and (count := jax.process_count()) > 1:
        raise UserError(f"{what} runs in one process, and this is one of {count}: start it without a launcher")


def on_first(make: Callable[[], Told]) -> Told:
    """What ``make`` returns in the first process, told to all of them; no other calls it, and all wait for its end.

    Raises:
        UserError, WriteError, OSError: it did there.
    """
    if _is_alone():
        return make()
    outcome = json.dumps(_outcome(make)).encode() if is_first() else b""
    length = int(_from_first(np.array(len(outcome))))
    told = json.loads(_from_first(np.frombuffer(outcome or bytes(length), np.uint8)).tobytes())
    if "mistake" in told:
        raise UserError(told["mistake"])
    if "unwritten" in told:
        raise WriteError(told["unwritten"])
    if "refused" in told:
        raise OSError(*told["refused"])
    value: Told = told["value"]
    return value


def largest(number: int) -> int:
    """The largest of what the processes give."""
    if _is_alone():
        return number
    from jax.experimental import multihost_utils  # not imported by jax itself

    return int(np.max(multihost_utils.process_allgather(np.array(number))))


@contextmanager
def only_first_speaks() -> Iterator[None]:
    """In this block nothing is printed but by the first process; an exception that ends it may be."""
    with open(os.devnull, "w") as nowhere:
        if is_first():
            yield
        else:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield


def _is_alone() -> bool:
    """Whether no processes were joined. Unlike ``jax.process_count``, it starts no device, which takes seconds."""
    return not jax.distributed.is_initialized()


def _outcome(make: Callable[[], object]) -> dict[str, object]:
    """What ``make`` returns or raises, as JSON can say it."""
    try:
        return {"value": make()}
    except WriteError as error:
        return {"unwritten": str(error)}
    except UserError as error:
        return {"mistake": str(error)}
    except OSError as error:
        return {"refused": [error.errno, error.strerror, error.filename and str(error.filename)]}


def _from_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def _place_in_launch(environment: Mapping[str, str]) -> tuple[int | None, int | None, list[int] | None]:
    """How many processes there are, which one this is, and which devices of its host it takes (see ``_devices``)."""
    for count, index, *here in LAUNCHERS:
        if environment.get(count, "").isdecimal() and environment.get(index, "").isdecimal():
            return int(environment[count]), int(environment[index]), _devices(environment, *here)
    count, index, *_ = KUBERNETES
    if index in environment:
        raise UserError(
            f"{index} is {environment[index]}, but {count} is not set: set it to the number of pods that make one run "
            "together, or to 1 where each makes its own"
        )
    return None, None, None


def _devices(environment: Mapping[str, str], count: str, index: str) -> list[int] | None:
    """[]: all of the host's; None: those that JAX_LOCAL_DEVICE_IDS names."""
    if "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    alone = re.fullmatch(r"1(\(x\d+\))?", environment.get(count, "1"))  # Slurm's 1(x4) is one on each of 4 hosts
    return [] if alone else [int(environment[index])]
