"""Run by test_bi_wkv_states: a sequence over four devices equals the sequence on one, and what the devices exchange."""

import os
import sys
from functools import partial
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from pallas_kernels.bi_wkv import bi_wkv, bi_wkv_context_parallel
from pallas_kernels.bi_wkv.cases import inputs
from tests.pallas_kernels.collectives import collectives, with_gradients

NAMES = ("k", "v", "decay", "bonus", "receptance")


def spread(k, v, decay, bonus, receptance, causal=False):
    mesh = jax.make_mesh((4,), ("t",), axis_types=(jax.sharding.AxisType.Auto,))
    tokens = P(None, "t", None)
    op = partial(bi_wkv_context_parallel, axis_name="t", causal=causal)
    return jax.shard_map(
        lambda k, v, d, u, r: op(k, v, d, u, receptance=r),
        mesh=mesh,
        in_specs=(tokens, tokens, P(), P(), tokens),
        out_specs=tokens,
    )(k, v, decay, bonus, receptance)


for decay, causal in ((0.02, False), (-0.04, False), (4.0, False), (0.02, True)):
    values = inputs((2, 4 * 19, 3), k_spread=5, decay=decay)
    arguments, g = [values[name] for name in NAMES], jnp.asarray(values["g"])
    op = partial(bi_wkv, causal=causal)
    whole = with_gradients(lambda *x, op=op: op(*x[:4], receptance=x[4]), g)(*arguments)
    pieces = with_gradients(partial(spread, causal=causal), g)(*arguments)
    for name, a, b in zip(("y", *NAMES), whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(a).max()), err_msg=f"{name} at decay {decay}")

B, _, C = values["k"].shape
states = ("all-gather", 6 * B * C * 4)
forward = collectives(spread, *arguments)
assert forward == [states], forward
*gathers, gradients = collectives(with_gradients(spread, g), *arguments)
assert gathers == [states] * 2, gathers
assert gradients[0] == "all-reduce" and gradients[1] <= 2 * C, gradients
