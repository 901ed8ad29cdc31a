"""What ``auto`` stands for, on the device that is there."""

from typing import Literal

from pallas_kernels.device import target_device
from pallas_kernels.implementation import implementation_for
from vrwkv_jax.system.errors import UserError, setting

Precision = Literal["float32", "bfloat16"]
Dtype = Literal["auto", Precision]


def chosen_bi_wkv(name: str) -> str:
    """The implementation of Bi-WKV that will run where ``name`` is asked for, such as "scan".

    Raises:
        UserError: it can't run here.
    """
    try:
        return implementation_for(name)
    except ValueError as error:
        raise UserError(
            f"{setting('bi_wkv')} {name}: {error}; {setting('bi_wkv', 'auto')} takes what this device can run"
        ) from error


def chosen_dtype(name: Dtype) -> Precision:
    """What is computed in where ``name`` is asked for. auto: what the device multiplies fastest at enough precision.

    That is bfloat16 on NVIDIA GPUs from compute capability 8.0 on, whose tensor cores know it, and float32 elsewhere.
    """
    if name != "auto":
        return name
    capability = target_device().capability
    return "bfloat16" if capability is not None and capability >= (8, 0) else "float32"
