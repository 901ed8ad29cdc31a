"""Several processes: what a launcher says, and that two do together what one does alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vrwkv_jax.errors import UserError
from vrwkv_jax.parallel import hosts

SCRIPT = Path(__file__).with_name("one_of_two_processes.py")


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
        (None, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, [(None, 4, 3)]),
        ("host:1", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, [("host:1", 2, 1)]),
        (None, {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "7"}, [("a:7", 2, 0)]),
        (
            None,
            {"JAX_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1", "JAX_COORDINATOR_ADDRESS": "pod:9"},
            [("pod:9", 2, 1)],
        ),
    ],
)
def test_launchers(joined, coordinator, environment, expected):
    hosts.join_hosts(coordinator, environment)
    assert joined == expected


def test_a_coordinator_alone_is_not_enough(joined):
    with pytest.raises(UserError, match="set WORLD_SIZE and RANK"):
        hosts.join_hosts(None, {"JAX_COORDINATOR_ADDRESS": "host:1"})
    assert not joined


def test_hosts_that_are_not_found(monkeypatch):
    def fail(*_):
        raise RuntimeError("Barrier timed out\nlong story")

    monkeypatch.setattr("jax.distributed.initialize", fail)
    with pytest.raises(UserError, match=r"process 1 of 2 can't join the others at a:1 \(Barrier timed out\)"):
        hosts.join_hosts("a:1", {"WORLD_SIZE": "2", "RANK": "1"})


def test_two_processes_equal_one(checkpoint, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(name: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, SCRIPT, checkpoint, tmp_path / name, tmp_path / f"{name}.npz"]
        return subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [start("two", RANK=str(rank), **together) for rank in range(2)] + [start("one")]
    for process in processes:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert set(one) == set(two) and len(one) > 10
        for name in one:
            if name == "edited":  # rounded to bytes
                assert np.abs(one[name].astype(int) - two[name]).max() <= 1
            else:
                np.testing.assert_allclose(two[name], one[name], atol=1e-5 * max(1, np.abs(one[name]).max()))
