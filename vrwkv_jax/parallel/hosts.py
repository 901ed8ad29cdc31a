"""One run on several hosts: who the others are, and who writes."""

import os
from collections.abc import Mapping

import jax

from vrwkv_jax.errors import UserError

# What launchers tell each process they start: how many there are, and which one it is.
LAUNCHERS = (
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("WORLD_SIZE", "RANK"),  # torchrun, and what Kubernetes' training operators set
    ("JAX_NUM_PROCESSES", "JOB_COMPLETION_INDEX"),  # an indexed job of Kubernetes
)


def join_hosts(coordinator: str | None, environment: Mapping[str, str] = os.environ) -> None:
    """Lets the processes that a launcher has started find each other; nothing happens where there is one process.

    Args:
        coordinator: ``HOST:PORT`` of process 0; None: ``JAX_COORDINATOR_ADDRESS``, ``MASTER_ADDR`` and
            ``MASTER_PORT``, or, under Slurm and Open MPI, what JAX finds out itself.
        environment: where launchers say how many processes there are, and which one this is.

    Raises:
        UserError: they don't say it although there is a coordinator, or the processes can't be reached.
    """
    count, index = _place_in_launch(environment)
    if count == 1 and coordinator is None:
        return
    if count is None or index is None:
        raise UserError(
            f"--coordinator {coordinator} is given, but no launcher says how many processes there are and which one "
            "this is: start them with srun, mpirun or torchrun, or set WORLD_SIZE and RANK for each"
        )
    master = environment.get("MASTER_ADDR")
    address = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    address = address or (f"{master}:{environment.get('MASTER_PORT', '12345')}" if master else None)
    try:
        jax.distributed.initialize(address, count, index)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"process {index} of {count} can't join the others at {address or 'an address that JAX finds'} ({reason}): "
            "name process 0 with --coordinator HOST:PORT"
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes videos, logs and messages."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when all processes have come to this point, which is called ``what``."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def _place_in_launch(environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    for count, index in LAUNCHERS:
        if environment.get(count, "").isdecimal() and environment.get(index, "").isdecimal():
            return int(environment[count]), int(environment[index])
    return (None, None) if environment.get("JAX_COORDINATOR_ADDRESS") else (1, 0)
