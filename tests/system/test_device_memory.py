"""What a program is said to need, against arrays whose size is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from vrwkv_jax.system import device_memory as memory

MATRIX = jnp.ones((512, 512))  # 1 MiB


@jax.jit
def step(x):
    return jnp.sin(x @ x) @ x  # one matrix in, one out, one or two in between


def test_needed():
    found = memory.estimate(step, MATRIX)
    assert 3 * MATRIX.nbytes <= found.needed <= 4.1 * MATRIX.nbytes
    with open("/proc/meminfo") as file:  # Linux
        assert found.capacity == 1024 * int(file.readline().split()[1])
    assert found.fits and not found.is_limit
    assert str(found) == f"0.0 GB of the {found.capacity / 1e9:.1f} GB that JAX may use of this computer"


def test_before_it_is_compiled():
    """Two matrices are alive at once, or three: the argument until its last use, and what is kept of it."""

    @jax.jit
    def forgets(x):
        return jnp.sin(jnp.sin(jnp.sin(x)))

    @jax.jit
    def keeps(x):
        y = jnp.sin(x)
        return jnp.cos(jnp.cos(y)) + y

    sizes = [memory.estimate_uncompiled(function, MATRIX).needed for function in (forgets, keeps)]
    assert sizes == [2 * MATRIX.nbytes, 3 * MATRIX.nbytes]


def test_on_a_gpu_what_it_holds_already_counts(monkeypatch):
    alone = memory.estimate(step, MATRIX).needed
    statistics = {"bytes_in_use": 10 * MATRIX.nbytes, "bytes_limit": 18_000_000_000}
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA RTX", memory_stats=lambda: statistics)
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    found = memory.estimate(step, MATRIX)
    assert found == memory.Estimate(alone + 9 * MATRIX.nbytes, 18_000_000_000, "NVIDIA RTX")  # one is the argument
    assert found.fits and found.is_limit
    statistics["bytes_limit"] = found.needed - 1
    assert not memory.estimate(step, MATRIX).fits


def test_a_compiler_that_does_not_say():
    compiled = SimpleNamespace(memory_analysis=lambda: None)
    silent = SimpleNamespace(lower=lambda *_: SimpleNamespace(compile=lambda: compiled))
    assert memory.estimate(silent, MATRIX, {"a": MATRIX}, "static").needed == 2 * MATRIX.nbytes


@pytest.mark.parametrize("error", [AttributeError, ValueError])
def test_a_system_that_does_not_say(monkeypatch, error):
    def sysconf(name):
        raise error(name)

    monkeypatch.setattr(memory.os, "sysconf", sysconf)
    found = memory.estimate(step, MATRIX)
    assert found.capacity is None and found.fits and str(found) == "0.0 GB"
