"""Run by test_selective_scan_states: a sequence over four devices equals the one on one, and what they exchange."""

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

from pallas_kernels.selective_scan import scan, selective_scan, selective_scan_context_parallel
from pallas_kernels.selective_scan.cases import ARGUMENTS, inputs
from tests.pallas_kernels.collectives import collectives, with_gradients

TOKENS = P(None, "t", None)


MESH = jax.make_mesh((4,), ("t",), axis_types=(jax.sharding.AxisType.Auto,))


def spread(*arguments, reverse=False):
    op = partial(selective_scan_context_parallel, axis_name="t", reverse=reverse)
    specs = (TOKENS, TOKENS, P(), TOKENS, TOKENS, P())
    return jax.shard_map(op, mesh=MESH, in_specs=specs, out_specs=TOKENS)(*arguments)


def by_channels(*arguments):
    """The op as it is, on a quarter of the channels; B and C are the same on every device."""
    channels, alike = P(None, None, "t"), P()
    specs = (channels, channels, P("t"), alike, alike, P("t"))
    return jax.shard_map(selective_scan, mesh=MESH, in_specs=specs, out_specs=channels)(*arguments)


def compare(op, other, arguments, g):
    pair = [with_gradients(f, g)(*arguments) for f in (op, other)]
    for name, a, b in zip(("y", *ARGUMENTS), *pair, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(a).max()), err_msg=name)


values = inputs((2, 4 * 19, 8, 4), A=(0.1, 16))
arguments, g = [jnp.asarray(values[name]) for name in ARGUMENTS], jnp.asarray(values["g"])
for runs, reverse in ((1, False), (2, True)):
    scan._runs = lambda T, runs=runs: runs
    compare(partial(selective_scan, reverse=reverse), partial(spread, reverse=reverse), arguments, g)
compare(selective_scan, by_channels, arguments, g)

B, _, E, N = (*values["x"].shape, values["A"].shape[1])
states = ("all-gather", 4 * B * (N + 1) * E)
forward = collectives(spread, *arguments)
assert forward == [states], forward
*gathers, gradients = collectives(with_gradients(spread, g), *arguments)
assert gathers == [states] * 2, gathers
assert gradients[0] == "all-reduce" and gradients[1] <= E * (N + 1), gradients
