"""The GPU kernels of the selective scan: the sums of chunks, their carry, and the outputs (see ``mosaic_tiles``)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from pallas_kernels.mosaic_gpu import Index, Ref, gpu_kernel, load_registers
from pallas_kernels.selective_scan.mosaic_tiles import (
    LAYOUT,
    QUARTERS,
    Block,
    OfRows,
    OfStates,
    Registers,
    States,
    Tokens,
    full,
    launch,
    states_shape,
    total,
)
from pallas_kernels.typing import Array, Float

CARRY_TILE = 8  # chunks


def sums(
    A: Float[Array, "N blocks lanes"], x: Tokens, dt: Tokens, B: OfStates, *, reverse: bool, interpret: Any
) -> tuple[States, OfRows]:
    """The state that each chunk alone leaves behind it, and the sum of its dt."""
    states = A.shape[0]

    def kernel(A_ref: Ref, x_ref: Ref, dt_ref: Ref, B_ref: Any, own_ref: Ref, age_ref: Ref) -> None:
        at = Block(x_ref, states, reverse)
        A = at.of_states(A_ref)

        def step(i: Index, carried: tuple[list[Registers], Registers]) -> tuple[list[Registers], Registers]:
            h, age = carried
            ts = at.tile(i)
            for t, x, dt in zip(ts, at.tokens(x_ref, ts), at.tokens(dt_ref, ts), strict=True):
                written = dt * x
                h = [jnp.exp2(dt * A[n]) * h[n] + written * B_ref[at.row, t, n] for n in range(states)]
                age = age + dt
            return h, age

        own, age = lax.fori_loop(0, at.tiles, step, (at.zeros(), full(0.0)))
        at.store_states(own_ref, own)
        at.store(age_ref, age)

    out = [states_shape(x, states), jax.ShapeDtypeStruct((x.shape[0], *x.shape[2:]), jnp.float32)]
    own, age = launch(kernel, "selective_scan_sums", x, out, interpret)(A, x, dt, B)
    return own, age


def carry(
    A: Float[Array, "N blocks lanes"],
    own: Float[Array, "B n N blocks lanes"],
    ages: Float[Array, "B n blocks lanes"],
    entry: Float[Array, "B N blocks lanes"],
    *,
    reverse: bool,
    interpret: Any,
) -> tuple[Float[Array, "B n N blocks lanes"], Float[Array, "B N blocks lanes"]]:
    """What enters each of n chunks, and what leaves the last one (``reverse``: the first one): ``state.carry``."""
    batch, n, states, blocks, _ = own.shape
    by_channel = blocks // QUARTERS

    def kernel(A_ref: Ref, own_ref: Ref, age_ref: Ref, entry_ref: Ref, entering_ref: Ref, out_ref: Ref) -> None:
        block = lax.axis_index("block")
        cs = pl.ds(lax.rem(block, by_channel) * QUARTERS, QUARTERS)
        state = lax.rem(lax.div(block, by_channel), states)
        b = lax.div(block, by_channel * states)
        A = load_registers(A_ref.at[state, cs], LAYOUT)

        def pass_by(first: Index, count: int, h: Registers) -> Registers:
            chunks = [n - 1 - (first + p) if reverse else first + p for p in range(count)]
            runs = [
                (i, load_registers(own_ref.at[b, i, state, cs], LAYOUT), load_registers(age_ref.at[b, i, cs], LAYOUT))
                for i in chunks
            ]
            entering = []
            for _, own, age in runs:
                entering.append(h)
                h = jnp.exp2(age * A) * h + own
            for (i, _, _), x in zip(runs, entering, strict=True):
                entering_ref[b, i, state, cs] = x
            return h

        h = load_registers(entry_ref.at[b, state, cs], LAYOUT)
        h = lax.fori_loop(0, n // CARRY_TILE, lambda i, h: pass_by(i * CARRY_TILE, CARRY_TILE, h), h)
        if rest := n % CARRY_TILE:
            h = pass_by(n - rest, rest, h)
        out_ref[b, state, cs] = h

    kernel.__name__ = "selective_scan_carry"
    out_shapes = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in (own, entry)]
    grid = dict(grid=(batch * states * by_channel,), grid_names=("block",))
    entering, out = gpu_kernel(kernel, out_shapes, (), grid, interpret, barriers=False)(A, own, ages, entry)
    return entering, out


def outputs(
    A: Float[Array, "N blocks lanes"],
    D: Float[Array, "blocks lanes"],
    x: Tokens,
    dt: Tokens,
    B: OfStates,
    C: OfStates,
    entering: Sequence[States],
    *,
    reverse: bool,
    interpret: Any,
) -> Tokens:
    """y, from the tokens and the state that enters each chunk; ``entering`` is empty where nothing does."""
    states = A.shape[0]

    def kernel(A_ref: Ref, D_ref: Ref, x_ref: Ref, dt_ref: Ref, B_ref: Any, C_ref: Any, *refs: Ref) -> None:
        *entering_refs, y_ref = refs
        at = Block(x_ref, states, reverse)
        A, D = at.of_states(A_ref), at.load(D_ref)

        def step(i: Index, h: list[Registers]) -> list[Registers]:
            ts = at.tile(i)
            ys = []
            for t, x, dt in zip(ts, at.tokens(x_ref, ts), at.tokens(dt_ref, ts), strict=True):
                written = dt * x
                h = [jnp.exp2(dt * A[n]) * h[n] + written * B_ref[at.row, t, n] for n in range(states)]
                ys.append(D * x + total([h[n] * C_ref[at.row, t, n] for n in range(states)]))
            for t, y in zip(ts, ys, strict=True):
                at.store(y_ref, y, t)
            return h

        lax.fori_loop(0, at.tiles, step, at.entering(entering_refs))

    out = [jax.ShapeDtypeStruct(x.shape, x.dtype)]
    (y,) = launch(kernel, "selective_scan_outputs", x, out, interpret)(A, D, x, dt, B, C, *entering)
    return y
