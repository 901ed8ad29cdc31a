"""The GPU kernels of Bi-WKV: the sums of chunks, their carry, and the outputs (see ``mosaic_tiles``)."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.bi_wkv.mosaic_tiles import (
    CARRY_LANES,
    CARRY_LAYOUT,
    CARRY_TILE,
    Block,
    OfRows,
    Pair,
    Registers,
    Table,
    Tokens,
    advance,
    at_exponent,
    backward_rows,
    flat,
    full,
    launch,
    nothing,
    park_backward,
    sigmoid,
    state_shapes,
    tile_rows,
    times,
    unpark,
)
from pallas_kernels.bi_wkv.state import EMPTY, State, aged, pass_run
from pallas_kernels.mosaic_gpu import Index, Ref, gpu_kernel, load_registers
from pallas_kernels.typing import Array, Float


def sums(table: Table, k: Tokens, v: Tokens, *, tile: int, interpret: Any) -> Sequence[OfRows]:
    """What each chunk alone adds to the forward and to the backward state: m, forward a, b, backward a, b."""
    length = k.shape[1]

    def kernel(
        r_ref: Ref, k_ref: Ref, v_ref: Ref, m_ref: Ref, fa_ref: Ref, fb_ref: Ref, ga_ref: Ref, gb_ref: Ref
    ) -> None:
        at = Block(k_ref, tile)
        r = at.channels(r_ref)

        def step(i: Index, carried: tuple[Registers, Pair, Pair, Registers]) -> tuple[Registers, Pair, Pair, Registers]:
            m, f, g, weight = carried
            ks, vs = ([at.token(ref, i * tile + p) for p in range(tile)] for ref in (k_ref, v_ref))
            new_m = reduce(jnp.maximum, ks, m)
            scale = jnp.exp(m - new_m)
            f, g = times(f, scale), times(g, scale)
            for key, value in zip(ks, vs, strict=True):
                e = jnp.exp(key - new_m)
                f = advance(f, r, e * value, e)
                g = (g[0] + weight * e * value, g[1] + weight * e)
                weight = weight * r
            return new_m, f, g, weight

        zero = full(0.0)
        m, f, g, _ = lax.fori_loop(0, length // tile, step, (full(EMPTY), (zero, zero), (zero, zero), full(1.0)))
        for ref, x in zip((m_ref, fa_ref, fb_ref, ga_ref, gb_ref), (m, *f, *g), strict=True):
            at.store(ref, x)

    return launch(kernel, "bi_wkv_sums", k.shape, state_shapes(k, 5), interpret, tile)(table.r, k, v)


def carry(decay: Float[Array, "lanes"], runs: State, *, interpret: Any) -> State:
    """What enters each of n runs, [n, lanes], from what each adds; ``decay`` [lanes] over a whole run."""
    n, lanes = runs.m.shape

    def kernel(decay_ref: Ref, m_ref: Ref, a_ref: Ref, b_ref: Ref, m_out: Ref, a_out: Ref, b_out: Ref) -> None:
        cs = pl.ds(lax.axis_index("lane") * CARRY_LANES, CARRY_LANES)
        load = partial(load_registers, layout=CARRY_LAYOUT)
        decay = load(decay_ref.at[cs])

        def step(i: Index, carried: tuple[State, Float[Array, "lanes"]]) -> tuple[State, Float[Array, "lanes"]]:
            runs = [
                State(*(load(x.at[i * CARRY_TILE + p, cs]) for x in (m_ref, a_ref, b_ref))) for p in range(CARRY_TILE)
            ]
            for p, run in enumerate(runs):
                for ref, x in zip((m_out, a_out, b_out), aged(carried, decay), strict=True):
                    ref[i * CARRY_TILE + p, cs] = x
                carried = pass_run(carried, run, decay)
            return carried

        def full(x: float) -> Float[Array, "lanes"]:
            filled: Array = plgpu.layout_cast(jnp.full((CARRY_LANES,), x, jnp.float32), CARRY_LAYOUT)
            return filled

        lax.fori_loop(0, n // CARRY_TILE, step, (State(full(EMPTY), full(0.0), full(0.0)), full(0.0)))

    kernel.__name__ = "bi_wkv_carry"
    shape = jax.ShapeDtypeStruct((n, lanes), jnp.float32)
    grid = dict(grid=(lanes // CARRY_LANES,), grid_names=("lane",))
    return State(*gpu_kernel(kernel, [shape] * 3, (), grid, interpret)(decay, *runs))


def outputs(
    table: Table,
    k: Tokens,
    v: Tokens,
    receptance: Tokens | None,
    states: tuple[OfRows, State, State] | None,
    *,
    causal: bool,
    tile: int,
    interpret: Any,
) -> Tokens:
    """y, from the tokens and ``states``: the largest k of each chunk and the states that enter it.

    ``states`` is None where nothing enters.
    """
    length = k.shape[1]
    gated = receptance is not None
    entering = flat(states)

    def kernel(r_ref: Ref, own_ref: Ref, k_ref: Ref, v_ref: Ref, *refs: Ref) -> None:
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        state_refs, (y_ref, *parked) = refs[: len(entering)], refs[len(entering) :]
        at = Block(k_ref, tile)
        r, own = at.channels(r_ref), at.channels(own_ref)
        m, forward, backward = at.entering(k_ref, state_refs)
        ref = jnp.maximum(jnp.maximum(forward.m, backward.m), m)
        f, g = at_exponent(forward, ref), at_exponent(backward, ref)
        rows = partial(tile_rows, at, k_ref, v_ref, ref)
        if not causal:
            park_backward(parked[0], rows, r, g, at)

        def step(i: Index, f: Pair) -> Pair:
            es, vs = rows(i)
            gs = nothing(tile) if causal else backward_rows(es, vs, r, unpark(parked[0], 0, i))[0]
            for p, (e, v, g) in enumerate(zip(es, vs, gs, strict=True)):
                y = (f[0] + g[0] + own * e * v) / (f[1] + g[1] + own * e)
                if gate_ref is not None:
                    y = y * sigmoid(at.token(gate_ref, i * tile + p))
                at.store_token(y_ref, i * tile + p, y)
                f = advance(f, r, e * v, e)
            return f

        lax.fori_loop(0, length // tile, step, f)

    gates = (receptance,) if gated else ()
    out = [jax.ShapeDtypeStruct(k.shape, v.dtype)]
    call = launch(kernel, "bi_wkv_outputs", k.shape, out, interpret, tile, parked=0 if causal else 2)
    (y,) = call(table.r, table.own, k, v, *gates, *entering)
    return y
