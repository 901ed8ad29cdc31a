"""The GPU kernels of Bi-WKV's gradient: what chunks send each other, and the gradients (see ``mosaic_tiles``)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.mosaic_tiles import (
    Block,
    OfRows,
    Pair,
    Registers,
    Table,
    Tile,
    Tokens,
    advance,
    at_exponent,
    backward_rows,
    flat,
    full,
    launch,
    nothing,
    park,
    park_backward,
    sigmoid,
    state_shapes,
    tile_rows,
    unpark,
)
from pallas_kernels.bi_wkv.state import State
from pallas_kernels.mosaic_gpu import Index, Ref
from pallas_kernels.typing import Array


def gradient_sums(
    table: Table,
    k: Tokens,
    v: Tokens,
    receptance: Tokens | None,
    g: Tokens,
    states: tuple[OfRows, State, State] | None,
    *,
    causal: bool,
    tile: int,
    interpret: Any,
) -> Sequence[OfRows]:
    """What each chunk's results say about the tokens beside it: q, s for those to its right, then to its left.

    With ``f_ref`` and ``g_ref`` the exponents that the chunk's forward and backward sums are kept at, the sums for the
    right stand at exponent ``-g_ref`` and those for the left at ``-f_ref``.
    """
    length = k.shape[1]
    gated = receptance is not None
    entering = flat(states)

    def kernel(r_ref: Ref, own_ref: Ref, k_ref: Ref, v_ref: Ref, g_ref: Ref, *refs: Ref) -> None:
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        state_refs, (pq_ref, ps_ref, rq_ref, rs_ref, *parked) = refs[: len(entering)], refs[len(entering) :]
        at = Block(k_ref, tile)
        c = _Chunk(at, r_ref, own_ref, k_ref, v_ref, g_ref, gate_ref, state_refs, parked, causal)

        def step(i: Index, carried: tuple[Pair, Pair, Pair, Registers]) -> tuple[Pair, Pair, Pair, Registers]:
            f, p, r_sum, weight = carried
            rows, f = c.results(i, f)
            for row in rows:
                p = c.pass_right(p, row)
                q, s = row.q * c.f_scale * weight, row.s * c.f_scale * weight
                r_sum = (r_sum[0] + q, r_sum[1] + s)
                weight = weight * c.r
            return f, p, r_sum, weight

        zero = full(0.0)
        start = (c.f, (zero, zero), (zero, zero), full(1.0))
        _, p, r_sum, _ = lax.fori_loop(0, length // tile, step, start)
        for ref, x in zip((pq_ref, ps_ref, rq_ref, rs_ref), (*p, *r_sum), strict=True):
            at.store(ref, x)

    gates = (receptance,) if gated else ()
    call = launch(
        kernel, "bi_wkv_gradient_sums", k.shape, state_shapes(k, 4), interpret, tile, parked=0 if causal else 2
    )
    return call(table.r, table.own, k, v, g, *gates, *entering)


def gradients(
    table: Table,
    k: Tokens,
    v: Tokens,
    receptance: Tokens | None,
    g: Tokens,
    states: tuple[OfRows, State, State] | None,
    carried: tuple[State, State] | None,
    *,
    causal: bool,
    tile: int,
    interpret: Any,
) -> Sequence[Array]:
    """dk, dv, each chunk's share of the gradients of decay and bonus, and that of the receptance if there is one.

    ``states`` as for ``outputs``; ``carried`` are the sums (q, s) that enter each chunk from the left (P) and from the
    right (R), or None with ``states``.
    """
    length = k.shape[1]
    tiles = length // tile
    gated = receptance is not None
    entering, sums_entering = flat(states), flat(carried)

    def kernel(r_ref: Ref, own_ref: Ref, k_ref: Ref, v_ref: Ref, g_ref: Ref, *refs: Ref) -> None:
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        state_refs, refs = refs[: len(entering)], refs[len(entering) :]
        carried_refs, refs = refs[: len(sums_entering)], refs[len(sums_entering) :]
        dk_ref, dv_ref, d_decay_ref, d_bonus_ref, *rest = refs
        d_gate_ref, parked = (rest[0] if gated else None), rest[-1]
        at = Block(k_ref, tile)
        c = _Chunk(at, r_ref, own_ref, k_ref, v_ref, g_ref, gate_ref, state_refs, [parked], causal)
        p_entry = r_entry = full(0.0), full(0.0)
        if carried_refs:
            p, r = (State(*map(at.state, refs)) for refs in (carried_refs[:3], carried_refs[3:]))
            p_entry, r_entry = at_exponent(p, -c.g_ref), at_exponent(r, -c.f_ref)

        def park_forward(i: Index, sums: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
            f, p = sums
            park(parked, 2, i, f)
            park(parked, 4, i, p)
            rows, f = c.results(i, f)
            for row in rows:
                p = c.pass_right(p, row)
            return f, p

        lax.fori_loop(0, tiles, park_forward, (c.f, p_entry))

        def step(j: Index, sums: tuple[Pair, Registers, Registers]) -> tuple[Pair, Registers, Registers]:
            r_sum, d_decay, d_bonus = sums
            i = tiles - 1 - j
            rows, _ = c.results(i, unpark(parked, 2, i))
            p, ps = unpark(parked, 4, i), []
            for row in rows:
                ps.append(p)
                p = c.pass_right(p, row)
            for t in reversed(range(tile)):
                row, p = rows[t], ps[t]
                own = c.own * c.at_m * row.e * row.q
                from_left, from_right = row.e * c.to_g, row.e * c.to_f  # e^k at the exponents of p and of r
                dk = from_left * (row.v * p[0] - p[1]) + from_right * (row.v * r_sum[0] - r_sum[1])
                at.store_token(dk_ref, i * tile + t, dk + own * (row.v - row.y))
                at.store_token(dv_ref, i * tile + t, from_left * p[0] + from_right * r_sum[0] + own)
                if row.gate is not None and d_gate_ref is not None:
                    at.store_token(d_gate_ref, i * tile + t, row.g * row.y * row.gate * (1 - row.gate))
                d_bonus = d_bonus + own * (row.v - row.y)
                crossing = r_sum[0] * row.f[0] - r_sum[1] * row.f[1] + p[0] * row.b[0] - p[1] * row.b[1]
                d_decay = d_decay - c.r * crossing
                r_sum = advance(r_sum, c.r, row.q * c.f_scale, row.s * c.f_scale)
            return r_sum, d_decay, d_bonus

        _, d_decay, d_bonus = lax.fori_loop(0, tiles, step, (r_entry, full(0.0), full(0.0)))
        at.store(d_decay_ref, d_decay)
        at.store(d_bonus_ref, d_bonus)

    gates = (receptance,) if gated else ()
    tokens = [jax.ShapeDtypeStruct(k.shape, x.dtype) for x in (k, v, *gates)]
    out = [*tokens[:2], *state_shapes(k, 2), *tokens[2:]]
    call = launch(kernel, "bi_wkv_gradients", k.shape, out, interpret, tile, parked=6)
    return call(table.r, table.own, k, v, g, *gates, *entering, *sums_entering)


class _Row(NamedTuple):
    """One token in the backward pass."""

    e: Registers  # e^(k - m)
    v: Registers
    f: Pair  # forward sums, at exponent f_ref
    b: Pair  # backward sums, at exponent g_ref
    y: Registers
    q: Registers  # at exponent -ref
    s: Registers
    g: Registers
    gate: Registers | None


class _Chunk:
    """A chunk in the backward pass.

    Forward and backward sums stand at an exponent of their own: R, the partner of the forward sums, is kept at minus
    that exponent, P at minus that of the backward sums, and so their products stay bounded whatever the decay.
    """

    def __init__(
        self,
        at: Block,
        r_ref: Ref,
        own_ref: Ref,
        k_ref: Ref,
        v_ref: Ref,
        g_ref: Ref,
        gate_ref: Ref | None,
        state_refs: Sequence[Ref],
        parked: Sequence[Ref],
        causal: bool,
    ) -> None:
        self.at, self.k_ref, self.v_ref, self.dy_ref, self.gate_ref = at, k_ref, v_ref, g_ref, gate_ref
        self.parked, self.causal = parked, causal
        self.r, self.own = at.channels(r_ref), at.channels(own_ref)
        m, forward, backward = at.entering(k_ref, state_refs)
        self.f_ref, self.g_ref = jnp.maximum(forward.m, m), jnp.maximum(backward.m, m)
        self.ref = jnp.maximum(self.f_ref, self.g_ref)
        self.m = m
        self.f, b = at_exponent(forward, self.f_ref), at_exponent(backward, self.g_ref)
        self.f_scale, self.g_scale = jnp.exp(self.f_ref - self.ref), jnp.exp(self.g_ref - self.ref)
        self.at_m = jnp.exp(m - self.ref)
        self.to_f, self.to_g = jnp.exp(m - self.f_ref), jnp.exp(m - self.g_ref)
        if not causal:
            rows = partial(tile_rows, at, k_ref, v_ref, m)
            park_backward(parked[0], lambda i: _scaled(rows(i), self.to_g), self.r, b, at)

    def results(self, i: Index, f: Pair) -> tuple[list[_Row], Pair]:
        """The tokens of tile i, from the forward sums before it; and the forward sums behind it."""
        es, vs = tile_rows(self.at, self.k_ref, self.v_ref, self.m, i)
        bs = nothing(len(es))
        if not self.causal:
            es_g, vs_g = _scaled((es, vs), self.to_g)
            bs, _ = backward_rows(es_g, vs_g, self.r, unpark(self.parked[0], 0, i))
        rows = []
        for t, (e, v, b) in enumerate(zip(es, vs, bs, strict=True)):
            own = self.own * self.at_m * e
            denominator = f[1] * self.f_scale + b[1] * self.g_scale + own
            y = (f[0] * self.f_scale + b[0] * self.g_scale + own * v) / denominator
            g, gate = self.at.token(self.dy_ref, i * len(es) + t), None
            if self.gate_ref is not None:
                gate = sigmoid(self.at.token(self.gate_ref, i * len(es) + t))
            q = (g if gate is None else g * gate) / denominator
            rows.append(_Row(e, v, f, b, y, q, q * y, g, gate))
            f = advance(f, self.r, e * self.to_f * v, e * self.to_f)
        return rows, f

    def pass_right(self, p: Pair, row: _Row) -> Pair:
        """The sums (q, s) for the tokens to the right, past one more token; if causal, those see nothing of it."""
        return p if self.causal else advance(p, self.r, row.q * self.g_scale, row.s * self.g_scale)


def _scaled(rows: Tile, scale: Registers) -> Tile:
    es, vs = rows
    return [e * scale for e in es], vs
