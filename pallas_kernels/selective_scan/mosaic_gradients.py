"""The GPU kernels of the selective scan's gradient, by the equations of ``piece`` (see ``mosaic_tiles``).

The gradients of B and C are sums over the channels, which lie in different threads. Each thread leaves its term of 32
sums (a tile's tokens, a group's states) in shared memory, and then each adds up a quarter of the terms of one of them;
XLA adds the quarters, and the blocks of 128 channels. That costs a thread one store and one load per term, where to add
up each sum by itself would cost five shuffles, and writes N / 4 bytes per channel and token to memory.

For chunks of 32 tokens and 16 states a block needs 64.5 KiB of shared memory and a thread up to 252 registers: two
blocks fit a multiprocessor of an A100 or an H200, and one that of an RTX 4090.
"""

from collections.abc import Sequence
from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.mosaic_gpu import Index, Ref, load_registers, wait_for_all
from pallas_kernels.selective_scan.mosaic_tiles import (
    GROUP,
    LANES,
    LAYOUT,
    QUARTERS,
    TILE,
    WIDTH,
    Block,
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

_Sums = tuple[list[Registers], list[Registers]]  # over states, of every token of a tile: u and w / log(2)
TERMS = TILE * GROUP  # sums over channels at a time: one for each thread of a quarter
SUMS = (TERMS, QUARTERS)
SUMS_LAYOUT = plgpu.Layout.WG_STRIDED(shape=SUMS, vec_size=1)


def gradient_sums(
    A: Float[Array, "N blocks lanes"], dt: Tokens, C: OfStates, g: Tokens, *, reverse: bool, interpret: Any
) -> States:
    """The gradient with respect to the state before each chunk, as far as the chunk's own y goes."""
    states = A.shape[0]

    def kernel(A_ref: Ref, dt_ref: Ref, C_ref: Any, g_ref: Ref, own_ref: Ref) -> None:
        at = Block(dt_ref, states, not reverse)
        A = at.of_states(A_ref)

        def step(i: Index, q: list[Registers]) -> list[Registers]:
            ts = at.tile(i)
            for t, dt, g in zip(ts, at.tokens(dt_ref, ts), at.tokens(g_ref, ts), strict=True):
                q = [jnp.exp2(dt * A[n]) * (q[n] + g * C_ref[at.row, t, n]) for n in range(states)]
            return q

        at.store_states(own_ref, lax.fori_loop(0, at.tiles, step, at.zeros()))

    call = launch(kernel, "selective_scan_gradient_sums", dt, [states_shape(dt, states)], interpret)
    (own,) = call(A, dt, C, g)
    return own


def gradients(
    A: Float[Array, "N blocks lanes"],
    D: Float[Array, "blocks lanes"],
    x: Tokens,
    dt: Tokens,
    B: OfStates,
    C: OfStates,
    g: Tokens,
    entering: Sequence[States],
    *,
    reverse: bool,
    interpret: Any,
) -> tuple[Tokens, Tokens, States, OfStates, OfStates, Float[Array, "rows blocks lanes"]]:
    """dx, ddt, each chunk's share in dA, dB, dC, and its share in dD.

    ``entering`` has the state that enters each chunk and the gradient with respect to the one that leaves it, or is
    empty where there are none.
    """
    states, (rows, length, blocks, _) = A.shape[0], x.shape
    tiles, groups, by_channel = length // TILE, states // GROUP, blocks // QUARTERS

    def kernel(A_ref: Ref, D_ref: Ref, x_ref: Ref, dt_ref: Ref, B_ref: Any, C_ref: Any, g_ref: Ref, *refs: Ref) -> None:
        entering_refs, refs = refs[: len(entering)], refs[len(entering) :]
        dx_ref, ddt_ref, dA_ref, dB_ref, dC_ref, dD_ref, parked, q_ref, dA_sums, terms = refs
        at = Block(x_ref, states, reverse)
        D = at.load(D_ref)
        mine = partial(load_registers, layout=LAYOUT)

        def park(i: Index, h: list[Registers]) -> None:
            for n in range(states):
                parked[i, n] = h[n]

        def pass_by(i: Index, h: list[Registers]) -> list[Registers]:
            park(i, h)
            ts = at.tile(i)
            for t, x, dt in zip(ts, at.tokens(x_ref, ts), at.tokens(dt_ref, ts), strict=True):
                written = dt * x
                h = [jnp.exp2(dt * A[n]) * h[n] + written * B_ref[at.row, t, n] for n in range(states)]
            return h

        A = at.of_states(A_ref)
        park(tiles - 1, lax.fori_loop(0, tiles - 1, pass_by, at.entering(entering_refs[:1])))
        for n, q in enumerate(at.entering(entering_refs[1:])):
            q_ref[n], dA_sums[n] = q, full(0.0)

        def add_up(out_ref: Ref, i: Index, group: Index) -> None:
            """Over the channels, a quarter each, what lies in ``terms``."""
            wait_for_all()
            quarters = total([load_registers(terms.at[:, :, c], SUMS_LAYOUT) for c in range(LANES)])
            out_ref[at.channel, at.row, i, group] = quarters
            wait_for_all()

        def tile(j: Index, dD: Registers) -> Registers:
            i = tiles - 1 - j
            ts = at.tile(i)
            xs, dts, gs = (at.tokens(ref, ts) for ref in (x_ref, dt_ref, g_ref))

            def group(k: Index, sums: _Sums) -> _Sums:
                us, ws = map(list, sums)
                ns = [k * GROUP + m for m in range(GROUP)]
                A = [at.load(A_ref, n) for n in ns]
                h = [mine(parked.at[i, n]) for n in ns]
                decays, aged = ([[full(0.0)] * GROUP for _ in range(TILE)] for _ in range(2))
                for p, t in enumerate(ts):
                    for m, n in enumerate(ns):
                        decays[p][m] = jnp.exp2(dts[p] * A[m])
                        aged[p][m] = decays[p][m] * h[m]
                        h[m] = aged[p][m] + dts[p] * xs[p] * B_ref[at.row, t, n]
                        terms[p * GROUP + m, :, pl.ds(0, LANES)] = gs[p] * h[m]
                add_up(dC_ref, i, k)
                q, dA = ([mine(ref.at[n]) for n in ns] for ref in (q_ref, dA_sums))
                for p, t in reversed(list(enumerate(ts))):
                    for m, n in enumerate(ns):
                        left = q[m] + gs[p] * C_ref[at.row, t, n]
                        terms[p * GROUP + m, :, pl.ds(0, LANES)] = left * dts[p] * xs[p]
                        us[p] = us[p] + left * B_ref[at.row, t, n]
                        w = left * aged[p][m]
                        ws[p] = ws[p] + w * A[m]
                        dA[m] = dA[m] + w * dts[p]
                        q[m] = decays[p][m] * left
                add_up(dB_ref, i, k)
                for m, n in enumerate(ns):
                    q_ref[n], dA_sums[n] = q[m], dA[m]
                return us, ws

            us, ws = lax.fori_loop(0, groups, group, ([full(0.0)] * TILE, [full(0.0)] * TILE))
            for t, x, dt, g, u, w in zip(ts, xs, dts, gs, us, ws, strict=True):
                at.store(dx_ref, dt * u + D * g, t)
                at.store(ddt_ref, x * u + log(2) * w, t)
                dD = dD + g * x
            return dD

        at.store(dD_ref, lax.fori_loop(0, tiles, tile, full(0.0)))
        at.store_states(dA_ref, [mine(dA_sums.at[n]) for n in range(states)])

    of_channels = jax.ShapeDtypeStruct((by_channel, rows, tiles, groups, *SUMS), jnp.float32)
    out = [
        *(jax.ShapeDtypeStruct(x.shape, y.dtype) for y in (x, dt)),
        states_shape(x, states),
        *[of_channels] * 2,
        jax.ShapeDtypeStruct((rows, *x.shape[2:]), jnp.float32),
    ]
    scratch = [
        plgpu.SMEM((tiles, states, *WIDTH), jnp.float32),  # the states before each tile
        *[plgpu.SMEM((states, *WIDTH), jnp.float32)] * 2,  # q and dA, so far
        plgpu.SMEM((TERMS, QUARTERS, LANES + 1), jnp.float32),  # one more, so that no two threads want the same bank
    ]
    call = launch(kernel, "selective_scan_gradients", x, out, interpret, scratch)
    dx, ddt, dA, dB, dC, dD = call(A, D, x, dt, B, C, g, *entering)
    return dx, ddt, dA, _of_states(dB, reverse), _of_states(dC, reverse), dD


def _of_states(sums: Float[Array, "by_channel rows tiles groups terms quarters"], reverse: bool) -> OfStates:
    """The sums over all channels, [rows, L, N]."""
    _, rows, tiles, groups, _, _ = sums.shape
    x = sums.sum(axis=(0, 5)).reshape(rows, tiles, groups, TILE, GROUP).swapaxes(2, 3)
    x = x.reshape(rows, tiles * TILE, groups * GROUP)
    return x[:, ::-1] if reverse else x
