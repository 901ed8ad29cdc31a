"""The GPU kernels without a GPU: their arithmetic in interpret mode, and that the compiled program calls them."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from pallas_kernels.bi_wkv import mosaic
from pallas_kernels.bi_wkv.cases import inputs
from pallas_kernels.bi_wkv.mosaic import bi_wkv_mosaic
from tests.pallas_kernels.oracle import GRADIENTS, dense
from tests.pallas_kernels.test_bi_wkv import errors, tolerance

H100 = partial(jax.sharding.AbstractDevice, device_kind="NVIDIA H100 80GB HBM3", platform="gpu")


def on_a_described_gpu(cores):
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=H100(num_cores=cores)))


def value_and_gradients(arguments, g, **options):
    y, vjp = jax.vjp(partial(bi_wkv_mosaic, **options), *arguments)
    return y, *vjp(g)


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="jax 0.11 is the first to interpret Mosaic GPU kernels")
@pytest.mark.parametrize(("k_spread", "decay"), [(5, 0.05), (80, -2.0)], ids=str)
def test_interpreted_kernels(k_spread, decay, monkeypatch):
    """Odd in every size: filler tokens and channels; two chunks, so that states are carried, and short ones."""
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    monkeypatch.setattr(mosaic, "LONGEST_CHUNK", 16)
    values = inputs((1, 30, 3), k_spread=k_spread, decay=decay)
    arguments = [jnp.asarray(values[name]) for name in GRADIENTS]
    with on_a_described_gpu(cores=8):
        got = value_and_gradients(arguments, jnp.asarray(values["g"]), interpret=InterpretGPUParams())
    worst = errors(dict(zip(("y", *GRADIENTS), got, strict=True)), dense(**values))
    assert max(worst.values()) < tolerance(values), worst


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_lowered_program_calls_the_kernels(gated):
    """Three kernels forward; five backward, two of which repeat the forward pass's sums and carry."""
    tokens = jax.ShapeDtypeStruct((2, 256, 320), jnp.bfloat16)
    channels = jax.ShapeDtypeStruct((320,), jnp.float32)
    arguments = (tokens, tokens, channels, channels, tokens if gated else None)

    def calls(f, *arguments):
        with on_a_described_gpu(cores=132):
            text = jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
        return len(re.findall(r"custom_call @mosaic_gpu", text))

    assert calls(bi_wkv_mosaic, *arguments) == 3
    assert calls(value_and_gradients, arguments, tokens) == 8
