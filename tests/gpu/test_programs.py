"""What every program of the product gives on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gpu.product import TINY_UNET, TINY_VAE, finite, prepare
from benchmarks.gpu.values import filled
from benchmarks.programs import PROGRAMS
from tests.gpu.conftest import TINY

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("frames", [2, 3] if TINY else [8, 16])
@pytest.mark.parametrize("program", PROGRAMS)
def test_full_size_is_finite(program, frames):
    step, arguments, static = prepare(program, frames, "vrwkv", TINY)
    assert finite(step(**jax.device_put(filled(arguments)), **static))


@pytest.mark.parametrize("program", ["sampling", "inversion", "tuning", "vae encode", "vae decode"])
def test_small_sizes_as_on_the_cpu(program):
    """In bfloat16 against the CPU's float32: no further off than a few times the CPU's own bfloat16 is.

    So the bound is what the type costs in this very program, not a number: where the CPU's two types differ by e, the
    GPU, which rounds at other places, may differ by 3 e. The VAE, which always computes in float32, may differ by 2e-2
    of its largest value: GPUs multiply float32 with 10 bits of mantissa, some 5e-4 at each of some thirty layers.
    """
    assert (TINY_UNET.norm_num_groups, TINY_VAE.norm_num_groups) == (4, 4)
    cpu = jax.devices("cpu")[0]
    exact = on(cpu, program, "float32")
    ours = on(jax.devices()[0], program, "bfloat16")
    usual = on(cpu, program, "bfloat16")
    for actual, other, expected in zip(ours, usual, exact, strict=True):
        scale = np.abs(expected).max()
        allowed = 3 * np.abs(other - expected).max() + 2e-2 * scale * program.startswith("vae") + 1e-6 * scale
        assert np.abs(actual - expected).max() <= allowed


def on(device: jax.Device, program: str, dtype: str) -> list[np.ndarray]:
    """What ``program`` gives on ``device``; of tuning its loss and norms, for Adam's first step knows signs alone."""
    step, arguments, static = prepare(program, 3, "vrwkv", tiny=True, dtype=dtype)
    with jax.default_device(device):
        values = filled(arguments)
        for name in values.keys() & {"params", "denoiser", "frozen"}:
            values[name] = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), values[name])
        result = jax.jit(lambda given: step(**given, **static))(jax.device_put(values, device))
    kept = result[2] if program == "tuning" else result
    floats = [x for x in jax.tree.leaves(kept) if x.dtype != bool]
    return [np.asarray(x, np.float64) for x in floats]
