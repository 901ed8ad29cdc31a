"""What the device decides where the user does not."""

import pytest

from pallas_kernels.device import Device
from vrwkv_jax.system import choices
from vrwkv_jax.system.choices import chosen_bi_wkv, chosen_dtype
from vrwkv_jax.system.errors import UserError


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        (Device("cpu", "cpu"), "float32"),
        (Device("gpu", "NVIDIA H200", (9, 0)), "bfloat16"),
        (Device("gpu", "NVIDIA A100-SXM4-80GB", (8, 0)), "bfloat16"),
        (Device("gpu", "NVIDIA GeForce RTX 2080 Ti", (7, 5)), "float32"),
        (Device("gpu", "AMD Instinct MI300X"), "float32"),
    ],
)
def test_dtype(device, dtype, monkeypatch):
    monkeypatch.setattr(choices, "target_device", lambda: device)
    assert chosen_dtype("auto") == dtype
    assert chosen_dtype("float32") == "float32" and chosen_dtype("bfloat16") == "bfloat16"


def test_bi_wkv_on_a_cpu():
    assert [chosen_bi_wkv(name) for name in ("auto", "scan", "reference")] == ["scan", "scan", "reference"]
    with pytest.raises(UserError, match=r"^bi_wkv mosaic: .*NVIDIA GPU.*; bi_wkv='auto' takes what"):
        chosen_bi_wkv("mosaic")
