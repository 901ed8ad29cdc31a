"""The GPU kernels without a GPU: their arithmetic in interpret mode, and that the compiled program calls them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from benchmarks.gpu_target import describing
from pallas_kernels.selective_scan import (
    mosaic,
    piece,
    selective_scan,
    selective_scan_context_parallel,
    selective_scan_with_state,
)
from pallas_kernels.selective_scan.cases import ARGUMENTS, inputs
from pallas_kernels.selective_scan.piece import Arguments, Piece, selective_scan_piece
from tests.pallas_kernels.interpreting import interpret_params, interpreted
from tests.pallas_kernels.lowered import calls_in_text, four_gpus, kernels, with_gradients
from tests.pallas_kernels.selective_scan_oracle import oracle
from tests.pallas_kernels.test_selective_scan import check


@interpreted
@pytest.mark.parametrize(
    ("shape", "reverse", "dt", "A"),
    [
        ((1, 21, 3, 3), False, (1e-3, 1e-1), (1, 16)),  # two chunks, so that states are carried
        ((1, 5, 3, 1), True, (1e-6, 50), (1e-9, 1e3)),  # one chunk, which nothing enters
        pytest.param((2, 40, 130, 5), True, (1e-3, 1e-1), (1, 16), marks=pytest.mark.long),
        pytest.param((1, 21, 3, 2), False, (1e-6, 50), (1e-9, 1e3), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_interpreted_kernels(shape, reverse, dt, A, monkeypatch):
    """Odd in every size: filler tokens, channels and states."""
    monkeypatch.setattr(mosaic, "LONGEST_CHUNK", 16)
    values = inputs(shape, dt=dt, A=A)
    arguments = [jnp.asarray(values[name]) for name in ARGUMENTS]
    kernel = Piece("mosaic", reverse, interpret=interpret_params())
    with describing("sm_90"):
        got = with_gradients(
            lambda *x: selective_scan_piece(Arguments(*x), None, kernel)[0], arguments, jnp.asarray(values["g"])
        )
    check(dict(zip(("y", *ARGUMENTS), got, strict=True)), oracle(values, reverse=reverse))


@interpreted
@pytest.mark.parametrize("states", [3, pytest.param(6, marks=pytest.mark.long)])
def test_interpreted_pieces(states, monkeypatch):
    """Behind a state, with gradients through it and the next, as ``scan`` has it; 4 of 6 states are taken at once."""
    monkeypatch.setattr(mosaic, "LONGEST_CHUNK", 16)
    monkeypatch.setattr(piece, "KERNEL_STATES", 4)
    values = inputs((1, 19, 3, states))
    rng = np.random.default_rng(1)
    entry, d_out = (jnp.asarray(rng.normal(size=(1, 3, states)), jnp.float32) for _ in range(2))
    arguments = [*(jnp.asarray(values[name]) for name in ARGUMENTS), entry]
    cotangents = jnp.asarray(values["g"]), d_out

    def run(piece):
        return with_gradients(lambda *x: selective_scan_piece(Arguments(*x[:6]), x[6], piece), arguments, cotangents)

    with describing("sm_90"):
        got = run(Piece("mosaic", reverse=True, interpret=interpret_params()))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(run(Piece(reverse=True))), strict=True):
        # 1e-5 of the largest: two float32 computations, each summing some 40 terms of that size.
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))


def shapes(B, T, E, N):
    """As a mixer would have them, in bfloat16."""

    def shape(*sizes, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(sizes, dtype)

    f32 = partial(shape, dtype=jnp.float32)
    return shape(B, T, E), f32(B, T, E), f32(E, N), shape(B, T, N), shape(B, T, N), f32(E)


LONG, SHORT = shapes(2, 250, 320, 16), shapes(64, 16, 320, 16)


def test_lowered_program_calls_the_kernels():
    """Nothing is asked for by name. Sums, carry, outputs forward; sums, carry, gradients backward."""
    both = partial(with_gradients, selective_scan)
    assert kernels(selective_scan, *LONG) == 3
    assert kernels(both, LONG, LONG[0]) == 6
    # One chunk, which nothing enters: no sums, no carry.
    assert kernels(selective_scan, *SHORT) == 1
    assert kernels(both, SHORT, SHORT[0]) == 2
    # Twice as many states as a thread takes.
    assert kernels(both, shapes(2, 250, 320, 32), LONG[0]) == 12


def test_equal_calls_are_lowered_once():
    def three(x, *others):
        for _ in range(3):
            x = selective_scan(x + 0, *others)
        return x

    assert calls_in_text(three, *LONG) == 3
    assert kernels(three, *LONG) == 9


def test_every_path_takes_the_kernels():
    """Pieces behind a state, many at once, and what is computed again for a gradient."""
    state = jax.ShapeDtypeStruct((2, 320, 16), jnp.float32)
    many = [jax.ShapeDtypeStruct((3, *x.shape), x.dtype) for x in LONG]

    def piece(*x):
        return selective_scan_with_state(*x[:6], state=x[6], reverse=True)

    def again(*x):
        return jax.grad(jax.checkpoint(lambda *x: jnp.sum(selective_scan(*x).astype(jnp.float32))))(*x)

    assert kernels(piece, *LONG, state) == 3
    assert kernels(jax.vmap(selective_scan), *many) == 3
    assert kernels(again, *LONG) == 5  # y itself is not asked for


def test_devices_that_share_a_sequence_take_the_kernels():
    mesh, tokens, alike = four_gpus(), PartitionSpec(None, "t"), PartitionSpec()
    x, dt, A, B, C, D = (jax.ShapeDtypeStruct((s.shape[0], 1000, *s.shape[2:]), s.dtype) for s in LONG)
    A, D = LONG[2], LONG[5]

    def shared(*arguments):
        op = partial(selective_scan_context_parallel, axis_name="t")
        specs = (tokens, tokens, alike, tokens, tokens, alike)
        return jax.shard_map(op, mesh=mesh, in_specs=specs, out_specs=tokens, check_vma=False)(*arguments)

    # The carry runs once for what each device adds, and once more from what enters; the loop is over the four devices.
    assert kernels(shared, x, dt, A, B, C, D, mesh=mesh, loops=1) == 4
