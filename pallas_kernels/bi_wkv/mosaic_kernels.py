"""The GPU kernels of Bi-WKV, in Pallas Mosaic GPU.

Tokens come as [rows, L, C], a row being a chunk of a sequence, states as [rows, C]. A warpgroup of 128 threads works on
``ROWS`` chunks and ``LANES`` channels, a thread on one channel of one chunk, and goes through the chunk's tokens in
tiles of ``TILE`` that it keeps in registers. The states at the borders of the tiles wait in shared memory, so that a
sweep in one direction can meet a sweep in the other without holding the chunk.
"""

import inspect
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.bi_wkv.state import EMPTY, State, aged, pass_run

ROWS, LANES, TILE = 2, 64, 8
CARRY_LANES, CARRY_TILE = ROWS * LANES, 8
_TOKEN_LAYOUT = plgpu.Layout.WG_STRIDED(shape=(ROWS, LANES), vec_size=1)
_CARRY_LAYOUT = plgpu.Layout.WG_STRIDED(shape=(CARRY_LANES,), vec_size=1)
_LOAD_INDEX = inspect.signature(plgpu.load).parameters.get("idx")
_LOAD_NEEDS_INDEX = _LOAD_INDEX is not None and _LOAD_INDEX.default is inspect.Parameter.empty  # jax 0.10


def sums(table, k, v, *, interpret):
    """What each chunk alone adds to the forward and to the backward state: m, forward a, b, backward a, b."""
    length = k.shape[1]

    def kernel(r_ref, k_ref, v_ref, m_ref, fa_ref, fb_ref, ga_ref, gb_ref):
        at = _Block(k_ref)
        r = at.channels(r_ref)

        def tile(i, carried):
            m, f, g, weight = carried
            ks, vs = ([at.token(ref, i * TILE + p) for p in range(TILE)] for ref in (k_ref, v_ref))
            new_m = reduce(jnp.maximum, ks, m)
            scale = jnp.exp(m - new_m)
            f, g = _times(f, scale), _times(g, scale)
            for key, value in zip(ks, vs, strict=True):
                e = jnp.exp(key - new_m)
                f = _step(f, r, e * value, e)
                g = (g[0] + weight * e * value, g[1] + weight * e)
                weight = weight * r
            return new_m, f, g, weight

        zero = _full(0.0)
        m, f, g, _ = lax.fori_loop(0, length // TILE, tile, (_full(EMPTY), (zero, zero), (zero, zero), _full(1.0)))
        for ref, x in zip((m_ref, fa_ref, fb_ref, ga_ref, gb_ref), (m, *f, *g), strict=True):
            at.store(ref, x)

    return _call(kernel, "bi_wkv_sums", k.shape, _states(k, 5), interpret)(table.r, k, v)


def carry(decay, runs: State, *, interpret) -> State:
    """What enters each of n runs, [n, lanes], from what each adds; ``decay`` [lanes] over a whole run."""
    n, lanes = runs.m.shape

    def kernel(decay_ref, m_ref, a_ref, b_ref, m_out, a_out, b_out):
        cs = pl.ds(lax.axis_index("lane") * CARRY_LANES, CARRY_LANES)
        load = partial(_load, layout=_CARRY_LAYOUT)
        decay = load(decay_ref.at[cs])

        def tile(i, carried):
            runs = [
                State(*(load(x.at[i * CARRY_TILE + p, cs]) for x in (m_ref, a_ref, b_ref))) for p in range(CARRY_TILE)
            ]
            for p, run in enumerate(runs):
                for ref, x in zip((m_out, a_out, b_out), aged(carried, decay), strict=True):
                    ref[i * CARRY_TILE + p, cs] = x
                carried = pass_run(carried, run, decay)
            return carried

        def full(x):
            return plgpu.layout_cast(jnp.full((CARRY_LANES,), x, jnp.float32), _CARRY_LAYOUT)

        lax.fori_loop(0, n // CARRY_TILE, tile, (State(full(EMPTY), full(0.0), full(0.0)), full(0.0)))

    kernel.__name__ = "bi_wkv_carry"
    shape = jax.ShapeDtypeStruct((n, lanes), jnp.float32)
    grid = dict(grid=(lanes // CARRY_LANES,), grid_names=("lane",))
    return State(*_kernel(kernel, [shape] * 3, (), grid, interpret)(decay, *runs))


def outputs(table, k, v, receptance, m, forward: State, backward: State, *, interpret):
    """y [rows, L, C], from the tokens and what enters each chunk."""
    length = k.shape[1]
    gated = receptance is not None

    def kernel(r_ref, own_ref, k_ref, v_ref, *refs):
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        (*state_refs, y_ref), parked = refs[:-1], refs[-1]
        at = _Block(k_ref)
        r, own = at.channels(r_ref), at.channels(own_ref)
        m, *states = (at.state(ref) for ref in state_refs)
        forward, backward = State(*states[:3]), State(*states[3:])
        ref = jnp.maximum(jnp.maximum(forward.m, backward.m), m)
        f, g = _at_exponent(forward, ref), _at_exponent(backward, ref)
        rows = partial(_tile_rows, at, k_ref, v_ref, ref)
        _park_backward(parked, rows, r, g, length)

        def tile(i, f):
            es, vs = rows(i)
            gs, _ = _backward_rows(es, vs, r, _unpark(parked, 0, i))
            for p, (e, v, g) in enumerate(zip(es, vs, gs, strict=True)):
                y = (f[0] + g[0] + own * e * v) / (f[1] + g[1] + own * e)
                if gated:
                    y = y * _sigmoid(at.token(gate_ref, i * TILE + p))
                at.store_token(y_ref, i * TILE + p, y)
                f = _step(f, r, e * v, e)
            return f

        lax.fori_loop(0, length // TILE, tile, f)

    gates = (receptance,) if gated else ()
    call = _call(kernel, "bi_wkv_outputs", k.shape, jax.ShapeDtypeStruct(k.shape, v.dtype), interpret, parked=2)
    return call(table.r, table.own, k, v, *gates, m, *forward, *backward)


def gradient_sums(table, k, v, receptance, g, m, forward: State, backward: State, *, interpret):
    """What each chunk's results say about the tokens beside it: q, s for those to its right, then to its left.

    With ``f_ref`` and ``g_ref`` the exponents that the chunk's forward and backward sums are kept at, the sums for the
    right stand at exponent ``-g_ref`` and those for the left at ``-f_ref``.
    """
    length = k.shape[1]
    gated = receptance is not None

    def kernel(r_ref, own_ref, k_ref, v_ref, g_ref, *refs):
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        *state_refs, pq_ref, ps_ref, rq_ref, rs_ref, parked = refs
        at = _Block(k_ref)
        c = _Chunk(at, r_ref, own_ref, k_ref, v_ref, g_ref, gate_ref, state_refs)
        c.park_backward(parked, length)

        def tile(i, carried):
            f, p, r_sum, weight = carried
            rows, f = c.results(i, f, _unpark(parked, 0, i))
            for row in rows:
                p = _step(p, c.r, row.q * c.g_scale, row.s * c.g_scale)
                q, s = row.q * c.f_scale * weight, row.s * c.f_scale * weight
                r_sum = (r_sum[0] + q, r_sum[1] + s)
                weight = weight * c.r
            return f, p, r_sum, weight

        zero = _full(0.0)
        start = (c.f, (zero, zero), (zero, zero), _full(1.0))
        _, p, r_sum, _ = lax.fori_loop(0, length // TILE, tile, start)
        for ref, x in zip((pq_ref, ps_ref, rq_ref, rs_ref), (*p, *r_sum), strict=True):
            at.store(ref, x)

    gates = (receptance,) if gated else ()
    call = _call(kernel, "bi_wkv_gradient_sums", k.shape, _states(k, 4), interpret, parked=2)
    return call(table.r, table.own, k, v, g, *gates, m, *forward, *backward)


def gradients(table, k, v, receptance, g, m, forward: State, backward: State, p: State, r: State, *, interpret):
    """dk, dv, the gradient of the receptance if there is one, and each chunk's share of those of decay and bonus."""
    length = k.shape[1]
    tiles = length // TILE
    gated = receptance is not None

    def kernel(r_ref, own_ref, k_ref, v_ref, g_ref, *refs):
        gate_ref, refs = (refs[0], refs[1:]) if gated else (None, refs)
        state_refs, p_refs, r_refs, refs = refs[:7], refs[7:10], refs[10:13], refs[13:]
        dk_ref, dv_ref, d_decay_ref, d_bonus_ref, *refs = refs
        d_gate_ref, parked = (refs[0] if gated else None), refs[-1]
        at = _Block(k_ref)
        c = _Chunk(at, r_ref, own_ref, k_ref, v_ref, g_ref, gate_ref, state_refs)
        c.park_backward(parked, length)
        p_entry = _at_exponent(State(*(at.state(ref) for ref in p_refs)), -c.g_ref)
        r_entry = _at_exponent(State(*(at.state(ref) for ref in r_refs)), -c.f_ref)

        def park_forward(i, carried):
            f, p = carried
            _park(parked, 2, i, f)
            _park(parked, 4, i, p)
            rows, f = c.results(i, f, _unpark(parked, 0, i))
            for row in rows:
                p = _step(p, c.r, row.q * c.g_scale, row.s * c.g_scale)
            return f, p

        lax.fori_loop(0, tiles, park_forward, (c.f, p_entry))

        def tile(j, carried):
            r_sum, d_decay, d_bonus = carried
            i = tiles - 1 - j
            rows, _ = c.results(i, _unpark(parked, 2, i), _unpark(parked, 0, i))
            p, ps = _unpark(parked, 4, i), []
            for row in rows:
                ps.append(p)
                p = _step(p, c.r, row.q * c.g_scale, row.s * c.g_scale)
            for t in reversed(range(TILE)):
                row, p = rows[t], ps[t]
                own = c.own * c.at_m * row.e * row.q
                from_left, from_right = row.e * c.to_g, row.e * c.to_f  # e^k at the exponents of p and of r
                dk = from_left * (row.v * p[0] - p[1]) + from_right * (row.v * r_sum[0] - r_sum[1])
                at.store_token(dk_ref, i * TILE + t, dk + own * (row.v - row.y))
                at.store_token(dv_ref, i * TILE + t, from_left * p[0] + from_right * r_sum[0] + own)
                if gated:
                    at.store_token(d_gate_ref, i * TILE + t, row.g * row.y * row.gate * (1 - row.gate))
                d_bonus = d_bonus + own * (row.v - row.y)
                crossing = r_sum[0] * row.f[0] - r_sum[1] * row.f[1] + p[0] * row.b[0] - p[1] * row.b[1]
                d_decay = d_decay - c.r * crossing
                r_sum = _step(r_sum, c.r, row.q * c.f_scale, row.s * c.f_scale)
            return r_sum, d_decay, d_bonus

        _, d_decay, d_bonus = lax.fori_loop(0, tiles, tile, (r_entry, _full(0.0), _full(0.0)))
        at.store(d_decay_ref, d_decay)
        at.store(d_bonus_ref, d_bonus)

    gates = (receptance,) if gated else ()
    tokens = [jax.ShapeDtypeStruct(k.shape, x.dtype) for x in (k, v, *gates)]
    out = [*tokens[:2], *_states(k, 2), *tokens[2:]]
    call = _call(kernel, "bi_wkv_gradients", k.shape, out, interpret, parked=6)
    return call(table.r, table.own, k, v, g, *gates, m, *forward, *backward, *p, *r)


class _Row(NamedTuple):
    """One token in the backward pass."""

    e: jax.Array  # e^(k - m)
    v: jax.Array
    f: tuple[jax.Array, jax.Array]  # forward sums, at exponent f_ref
    b: tuple[jax.Array, jax.Array]  # backward sums, at exponent g_ref
    y: jax.Array
    q: jax.Array  # at exponent -ref
    s: jax.Array
    g: jax.Array
    gate: jax.Array | None


class _Chunk:
    """A chunk in the backward pass.

    Forward and backward sums stand at an exponent of their own: R, the partner of the forward sums, is kept at minus
    that exponent, P at minus that of the backward sums, and so their products stay bounded whatever the decay.
    """

    def __init__(self, at, r_ref, own_ref, k_ref, v_ref, g_ref, gate_ref, state_refs):
        self.at, self.k_ref, self.v_ref, self.dy_ref, self.gate_ref = at, k_ref, v_ref, g_ref, gate_ref
        self.r, self.own = at.channels(r_ref), at.channels(own_ref)
        m, *states = (at.state(ref) for ref in state_refs)
        forward, backward = State(*states[:3]), State(*states[3:])
        self.f_ref, self.g_ref = jnp.maximum(forward.m, m), jnp.maximum(backward.m, m)
        self.ref = jnp.maximum(self.f_ref, self.g_ref)
        self.m = m
        self.f, self.b = _at_exponent(forward, self.f_ref), _at_exponent(backward, self.g_ref)
        self.f_scale, self.g_scale = jnp.exp(self.f_ref - self.ref), jnp.exp(self.g_ref - self.ref)
        self.at_m = jnp.exp(m - self.ref)
        self.to_f, self.to_g = jnp.exp(m - self.f_ref), jnp.exp(m - self.g_ref)

    def park_backward(self, parked, length):
        rows = partial(_tile_rows, self.at, self.k_ref, self.v_ref, self.m)
        _park_backward(parked, lambda i: _scaled(rows(i), self.to_g), self.r, self.b, length)

    def results(self, i, f, b) -> tuple[list[_Row], tuple]:
        """The tokens of tile i, from the states at its two ends; and the forward sums behind it."""
        es, vs = _tile_rows(self.at, self.k_ref, self.v_ref, self.m, i)
        es_g, vs_g = _scaled((es, vs), self.to_g)
        bs, _ = _backward_rows(es_g, vs_g, self.r, b)
        rows = []
        for t, (e, v, b) in enumerate(zip(es, vs, bs, strict=True)):
            own = self.own * self.at_m * e
            denominator = f[1] * self.f_scale + b[1] * self.g_scale + own
            y = (f[0] * self.f_scale + b[0] * self.g_scale + own * v) / denominator
            g, gate = self.at.token(self.dy_ref, i * TILE + t), None
            if self.gate_ref is not None:
                gate = _sigmoid(self.at.token(self.gate_ref, i * TILE + t))
            q = (g if gate is None else g * gate) / denominator
            rows.append(_Row(e, v, f, b, y, q, q * y, g, gate))
            f = _step(f, self.r, e * self.to_f * v, e * self.to_f)
        return rows, f


def _scaled(rows, scale):
    es, vs = rows
    return [e * scale for e in es], vs


class _Block:
    """Where this warpgroup works."""

    def __init__(self, tokens_ref):
        # One axis: a grid's second and third axis end at 65,535 blocks.
        block, by_channel = lax.axis_index("block"), tokens_ref.shape[2] // LANES
        self.cs = pl.ds(lax.rem(block, by_channel) * LANES, LANES)
        self.rows = pl.ds(lax.div(block, by_channel) * ROWS, ROWS)

    def channels(self, ref):
        """A [ROWS, C] table, the same in every row."""
        return _load(ref.at[:, self.cs], _TOKEN_LAYOUT)

    def state(self, ref):
        return _load(ref.at[self.rows, self.cs], _TOKEN_LAYOUT)

    def token(self, ref, t):
        return _load(ref.at[self.rows, t, self.cs], _TOKEN_LAYOUT).astype(jnp.float32)

    def store(self, ref, x):
        ref[self.rows, self.cs] = x

    def store_token(self, ref, t, x):
        ref[self.rows, t, self.cs] = x.astype(ref.dtype)


def _load(ref, layout):
    index = ((),) if _LOAD_NEEDS_INDEX else ()
    return plgpu.load(ref, *index, layout=layout, optimized=False)


def _full(x):
    return plgpu.layout_cast(jnp.full((ROWS, LANES), x, jnp.float32), _TOKEN_LAYOUT)


def _step(state, r, a, b):
    return state[0] * r + a, state[1] * r + b


def _times(state, scale):
    return state[0] * scale, state[1] * scale


def _at_exponent(state: State, ref):
    return _times((state.a, state.b), jnp.exp(state.m - ref))


def _sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def _tile_rows(at, k_ref, v_ref, ref, i):
    """e^(k - ref) and v of the tokens of tile i."""
    es = [jnp.exp(at.token(k_ref, i * TILE + p) - ref) for p in range(TILE)]
    return es, [at.token(v_ref, i * TILE + p) for p in range(TILE)]


def _backward_rows(es, vs, r, g):
    """The backward sums at every token of a tile, and before it, from those behind it."""
    rows = []
    for e, v in zip(reversed(es), reversed(vs), strict=True):
        rows.append(g)
        g = _step(g, r, e * v, e)
    return rows[::-1], g


def _park(parked, slot, i, state):
    parked[slot, i], parked[slot + 1, i] = state


def _unpark(parked, slot, i):
    return tuple(_load(parked.at[slot + j, i], _TOKEN_LAYOUT) for j in range(2))


def _park_backward(parked, rows, r, g, length):
    """The backward sums behind every tile into slots 0 and 1."""
    tiles = length // TILE

    def tile(j, g):
        i = tiles - 1 - j
        _park(parked, 0, i, g)
        return _backward_rows(*rows(i), r, g)[1]

    lax.fori_loop(0, tiles, tile, g)


def _states(k, count):
    return [jax.ShapeDtypeStruct((k.shape[0], k.shape[2]), jnp.float32)] * count


def _call(kernel, name, shape, out, interpret, parked=0):
    """``kernel`` over all rows and channels, with room for so many arrays of tile states."""
    rows, length, channels = shape
    kernel.__name__ = name
    scratch = [plgpu.SMEM((parked, length // TILE, ROWS, LANES), jnp.float32)] if parked else ()
    grid = dict(grid=(channels // LANES * (rows // ROWS),), grid_names=("block",))
    return _kernel(kernel, out, scratch, grid, interpret)


def _kernel(kernel, out, scratch, grid, interpret):
    options = {} if interpret is None else {"interpret": interpret}
    params = plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane)
    return plgpu.kernel(kernel, out_type=out, scratch_types=scratch, compiler_params=params, **grid, **options)
