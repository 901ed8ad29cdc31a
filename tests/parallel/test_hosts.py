"""Several processes: what a launcher says. What they do together is in tests/runs/test_two_processes.py."""

import pytest

from vrwkv_jax.parallel import hosts
from vrwkv_jax.system.errors import UserError


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize was called with."""
    calls = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(
    ("coordinator", "environment", "expected"),
    [
        (None, {}, []),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, []),  # an allocation, but not a step of it
        (None, {"WORLD_SIZE": "1", "RANK": "0"}, []),
        (None, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, [(None, 4, 3, [])]),
        ("host:1", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, [("host:1", 2, 1, [])]),
        (None, {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "7"}, [("a:7", 2, 0, [])]),
        (
            None,
            {"JAX_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1", "JAX_COORDINATOR_ADDRESS": "pod:9"},
            [("pod:9", 2, 1, [])],
        ),
        (None, {"JAX_NUM_PROCESSES": "1", "JOB_COMPLETION_INDEX": "1"}, []),
    ],
)
def test_launchers(joined, coordinator, environment, expected):
    hosts.join_hosts(coordinator, environment)
    assert joined == expected


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        (SLURM | {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, []),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, [1]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4"}, [1]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4", "JAX_LOCAL_DEVICE_IDS": "0"}, None),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, [1]),
        (TORCHRUN | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, []),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}, [1]),
    ],
)
def test_all_devices_of_the_host_or_its_own(environment, devices, joined):
    hosts.join_hosts(None, environment)
    assert [call[1:] for call in joined] == [(4, 3, devices)]


def test_all_devices_is_what_jax_takes_no_device_for(monkeypatch):
    """Under Slurm it would otherwise choose the one with the number of the task."""
    from jax._src.clusters import ClusterEnv

    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "4", **SLURM}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    chosen = [
        ClusterEnv.auto_detect_unset_distributed_params(None, 4, 3, devices, None, None)[-1] for devices in (None, [])
    ]
    assert chosen == [[1], []]


def test_one_of_how_many(joined):
    expected = "JOB_COMPLETION_INDEX is 2, but JAX_NUM_PROCESSES is not set: set it to the number of pods"
    for coordinator in (None, "host:1"):
        with pytest.raises(UserError, match=expected):
            hosts.join_hosts(coordinator, {"JOB_COMPLETION_INDEX": "2"})
    assert not joined


def test_a_coordinator_alone_is_not_enough(joined):
    with pytest.raises(UserError, match=r"JAX_COORDINATOR_ADDRESS is given, but .* set WORLD_SIZE and RANK"):
        hosts.join_hosts(None, {"JAX_COORDINATOR_ADDRESS": "host:1"})
    with pytest.raises(UserError, match=r"^coordinator host:1 is given, but .* set WORLD_SIZE and RANK"):
        hosts.join_hosts("host:1", {})
    assert not joined


def test_hosts_that_are_not_found(monkeypatch):
    def fail(*_):
        raise RuntimeError("Barrier timed out\nlong story")

    monkeypatch.setattr("jax.distributed.initialize", fail)
    with pytest.raises(UserError, match=r"process 1 of 2 can't join the others at a:1 \(Barrier timed out\)"):
        hosts.join_hosts("a:1", {"WORLD_SIZE": "2", "RANK": "1"})


def test_one_process_asks_nobody():
    assert hosts.is_first()
    assert hosts.on_first(lambda: "here") == "here"
    assert hosts.largest(3) == 3
