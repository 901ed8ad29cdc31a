"""For which device a program is traced."""

from types import SimpleNamespace

import jax
import pytest

from pallas_kernels.device import Device, target_device


@pytest.mark.parametrize("chosen", ["cpu", "the device"])
def test_where_there_is_a_gpu_jax_may_still_be_told_to_use_another(chosen, monkeypatch):
    """For that one must be traced: a GPU's kernels can't be compiled for it."""
    gpu, [cpu, *_] = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", compute_capability="9.0"), jax.devices()
    monkeypatch.setattr(jax, "devices", lambda platform=None: [cpu if platform else gpu])
    assert target_device() == Device("gpu", "NVIDIA H200", (9, 0))
    with jax.default_device("cpu" if chosen == "cpu" else cpu):
        assert target_device() == Device("cpu", cpu.device_kind)
