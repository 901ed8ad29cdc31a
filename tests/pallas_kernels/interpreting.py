"""Pallas's interpret mode for Mosaic GPU kernels."""

import jax
import pytest

interpreted = pytest.mark.skipif(
    jax.__version_info__ < (0, 11), reason="jax 0.11 is the first to interpret Mosaic GPU kernels"
)


def interpret_params():
    """``wait_for_all`` is nothing to it: it runs one kernel's statements one after the other."""
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams(inline_mgpu="ignore")
