"""Sequences in pieces and sequences spread over devices: all equal to the whole."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.selective_scan import selective_scan_with_state
from pallas_kernels.selective_scan.cases import ARGUMENTS, inputs
from tests.pallas_kernels.collectives import with_gradients
from tests.pallas_kernels.implementations import implementations


def by_pieces(op, x, dt, A, B, C, D, state, *, cuts, reverse):
    pieces = list(zip(*(jnp.split(x, cuts, axis=1) for x in (x, dt, B, C)), strict=True))
    found = []
    for x, dt, B, C in reversed(pieces) if reverse else pieces:
        y, state = op(x, dt, A, B, C, D, state=state, reverse=reverse)
        found.append(y)
    return jnp.concatenate(found[::-1] if reverse else found, axis=1), state


@implementations
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_pieces_equal_the_whole(implementation, reverse):
    """Values and gradients, through the states that go in, between and out. Odd pieces, one of a single token."""
    values = inputs((2, 47, 3, 4))
    rng = np.random.default_rng(1)
    state, g_state = (jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    arguments = [*(jnp.asarray(values[name]) for name in ARGUMENTS), state]
    op = partial(selective_scan_with_state, implementation=implementation)
    cotangents = jnp.asarray(values["g"]), g_state

    def whole(*x):
        return op(*x[:6], state=x[6], reverse=reverse)

    want = with_gradients(whole, cotangents)(*arguments)
    got = with_gradients(partial(by_pieces, op, cuts=(19, 20), reverse=reverse), cotangents)(*arguments)
    for name, a, b in zip(
        ("y", "state out", *ARGUMENTS, "state"), jax.tree.leaves(got), jax.tree.leaves(want), strict=True
    ):
        # 1e-5 of the largest: two float32 computations of sums of some 100 terms of that size.
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), err_msg=name)


def test_context_parallel_on_four_devices():
    """In a process of its own, because the number of devices is fixed at a process's start."""
    script = Path(__file__).with_name("selective_scan_on_four_devices.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
