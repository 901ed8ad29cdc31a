"""Bi-WKV in plain JAX, for the CPU and for every accelerator the GPU kernels don't cover.

The sequence is cut into n chunks of length L. Every chunk is summed up on its own, a short scan over the chunks
carries the summaries from left to right and from right to left, and then all chunks, each with its two entry states,
run side by side through L plain multiply-adds per direction. Memory is linear in the tokens.

Inside a chunk one reference exponent per direction serves all its tokens, so that nothing drifts. That is safe while
``L * |decay|`` stays below ``SAFE_EXPONENT``; stronger decays take the same code with chunks of one token, in which
every exponential is taken of a difference to the running maximum.

Backward, with g = dL/dy, D the denominator, q = g/D, s = q*y, r = exp(-decay), F and G the forward and backward sums:

    P_t = sum_{i<t} r^(t-1-i) (q, s)_i          R_t = sum_{i>t} r^(i-t-1) (q, s)_i
    dv  = e^k (P.q + R.q + e^u q)               dk  = e^k (v (P.q + R.q + e^u q) - (P.s + R.s + e^u s))
    du  = sum e^(u+k) q (v - y)                 ddecay = -r sum [R.q F.a - R.s F.b + P.q G.a - P.s G.b]

R is what the loss's gradient with respect to F is made of, and P with respect to G: each is kept at minus the
exponent of its partner, which bounds their products whatever the decay.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.state import EMPTY, State, empty_state, merge

CHUNK = 64  # longest chunk, in tokens
SAFE_EXPONENT = 40.0  # exp(+-40) squared still fits in float32


def bi_wkv_scan(k, v, decay, bonus, receptance=None):
    """Bi-WKV over whole sequences; arguments and result as for ``bi_wkv``."""
    batch, _, channels = k.shape
    empty = empty_state(batch, channels, _inner_dtype(v))
    return bi_wkv_scan_with_states(k, v, decay, bonus, receptance, empty, empty)[0]


@jax.custom_vjp
def bi_wkv_scan_with_states(k, v, decay, bonus, receptance, forward: State, backward: State):
    """Bi-WKV over a piece of a sequence, between the states of what lies before it and behind it.

    Returns:
        y as for ``bi_wkv``, the forward state behind the piece and the backward state before it.
    """
    return _forward(k, v, decay, bonus, receptance, forward, backward)


def _forward(k, v, decay, bonus, receptance, forward, backward):
    dtype = _inner_dtype(v)

    def run(length):
        def outputs():
            c = _cut(k, v, decay, forward, backward, length)
            ref = jnp.maximum(c.forward_ref, c.backward_ref)
            e = c.e * jnp.exp(c.m - ref)
            x = (e * c.v, e)
            f = _sweep(x, c.r, _rescale(c.forward, ref), reverse=False)
            g = _sweep(x, c.r, _rescale(c.backward, ref), reverse=True)
            own = jnp.exp(bonus.astype(dtype))
            y = (f[0] + g[0] + own * x[0]) / (f[1] + g[1] + own * x[1])
            return _join(y, k.shape[1]), c.forward_out, c.backward_out

        return outputs

    y, forward_out, backward_out = _with_safe_length(run, k.shape[1], decay)
    if receptance is not None:
        y = jax.nn.sigmoid(receptance.astype(dtype)) * y
    return y.astype(v.dtype), forward_out, backward_out


def _forward_rule(k, v, decay, bonus, receptance, forward, backward):
    out = _forward(k, v, decay, bonus, receptance, forward, backward)
    return out, (k, v, decay, bonus, receptance, forward, backward, out[1].m, out[2].m)


def _backward_rule(residuals, cotangents):
    k, v, decay, bonus, receptance, forward, backward, forward_out_m, backward_out_m = residuals
    g, d_forward_out, d_backward_out = cotangents
    dtype = _inner_dtype(v)
    T = k.shape[1]
    r_entry = _state_of_cotangent(d_forward_out, forward_out_m)
    p_entry = _state_of_cotangent(d_backward_out, backward_out_m)

    def run(length):
        def gradients():
            c = _cut(k, v, decay, forward, backward, length)
            ref = jnp.maximum(c.forward_ref, c.backward_ref)
            f_scale, g_scale = jnp.exp(c.forward_ref - ref), jnp.exp(c.backward_ref - ref)
            ef, eg = c.e * jnp.exp(c.m - c.forward_ref), c.e * jnp.exp(c.m - c.backward_ref)
            f = _sweep((ef * c.v, ef), c.r, _rescale(c.forward, c.forward_ref), reverse=False)
            b = _sweep((eg * c.v, eg), c.r, _rescale(c.backward, c.backward_ref), reverse=True)
            own = jnp.exp(bonus.astype(dtype)) * c.e * jnp.exp(c.m - ref)
            denominator = f[1] * f_scale + b[1] * g_scale + own
            y = (f[0] * f_scale + b[0] * g_scale + own * c.v) / denominator
            dy, d_receptance = _rows(g, length, 0.0, dtype), None
            if receptance is not None:
                gate = jax.nn.sigmoid(_rows(receptance, length, 0.0, dtype))
                d_receptance = _join(dy * y * gate * (1 - gate), T).astype(receptance.dtype)
                dy = dy * gate
            q = dy / denominator
            qp, qr = (q * g_scale, q * g_scale * y), (q * f_scale, q * f_scale * y)
            p_summary = State(-c.backward_ref, *(jnp.sum(x * c.to_end, axis=0) for x in qp))
            r_summary = State(-c.forward_ref, *(jnp.sum(x * c.to_start, axis=0) for x in qr))
            p_states, p_out = _carry(p_summary, p_entry, decay, length, T, reverse=False)
            r_states, r_out = _carry(r_summary, r_entry, decay, length, T, reverse=True)
            p = _sweep(qp, c.r, _rescale(p_states, -c.backward_ref), reverse=False)
            r = _sweep(qr, c.r, _rescale(r_states, -c.forward_ref), reverse=True)
            d_own = own * q
            dv = eg * p[0] + ef * r[0] + d_own
            dk = eg * (c.v * p[0] - p[1]) + ef * (c.v * r[0] - r[1]) + d_own * (c.v - y)
            d_bonus = _sum_rows(d_own * (c.v - y))
            crossing = r[0] * f[0] - r[1] * f[1] + p[0] * b[0] - p[1] * b[1]
            d_decay = -c.r * _sum_rows(jnp.where(_is_token(length, T), crossing, 0.0))
            return _join(dk, T), _join(dv, T), d_decay, d_bonus, d_receptance, r_out, p_out

        return gradients

    dk, dv, d_decay, d_bonus, d_receptance, r_out, p_out = _with_safe_length(run, T, decay)
    return (
        dk.astype(k.dtype),
        dv.astype(v.dtype),
        d_decay.astype(decay.dtype),
        d_bonus.astype(bonus.dtype),
        d_receptance,
        _cotangent_of_state(r_out, forward),
        _cotangent_of_state(p_out, backward),
    )


bi_wkv_scan_with_states.defvjp(_forward_rule, _backward_rule)


class _Chunks(NamedTuple):
    """A sequence cut into n chunks. Tokens are [L, B, n, C], states [B, n, C]."""

    v: jax.Array
    e: jax.Array  # exp(k - m)
    m: jax.Array  # the largest k of each chunk
    r: jax.Array  # exp(-decay), [C]
    to_end: jax.Array  # r ** (tokens between a token and the end of its chunk), [L, 1, 1, C]
    to_start: jax.Array
    forward: State  # entry states
    backward: State
    forward_ref: jax.Array  # the exponent that forward sums are kept at
    backward_ref: jax.Array
    forward_out: State  # [B, C]: beyond the ends of the sequence
    backward_out: State


def _cut(k, v, decay, forward, backward, length) -> _Chunks:
    dtype = _inner_dtype(v)
    T = k.shape[1]
    k, v, decay = _rows(k, length, EMPTY, dtype), _rows(v, length, 0.0, dtype), decay.astype(dtype)
    m = jnp.maximum(k.max(axis=0), EMPTY)  # EMPTY, so that tokens masked by k = -inf weigh nothing
    e = jnp.exp(k - m)
    position = jnp.arange(length, dtype=dtype)[:, None, None, None]
    to_end, to_start = jnp.exp(-(length - 1 - position) * decay), jnp.exp(-position * decay)
    summary = [State(m, jnp.sum(e * v * w, axis=0), jnp.sum(e * w, axis=0)) for w in (to_end, to_start)]
    forward, forward_out = _carry(summary[0], forward, decay, length, T, reverse=False)
    backward, backward_out = _carry(summary[1], backward, decay, length, T, reverse=True)
    forward_ref, backward_ref = jnp.maximum(forward.m, m), jnp.maximum(backward.m, m)
    r = jnp.exp(-decay)
    return _Chunks(
        v, e, m, r, to_end, to_start, forward, backward, forward_ref, backward_ref, forward_out, backward_out
    )


def _carry(summary: State, entry: State, decay, length: int, T: int, *, reverse: bool) -> tuple[State, State]:
    """From the chunks' own sums [B, n, C] and the entry state [B, C]: every chunk's entry state, and the last one.

    The scan keeps the exponent of the token it came from and the number of chunks since: subtracting the decay chunk by
    chunk would add up a rounding error of the size of the exponent each time.
    """
    decay = decay.astype(summary.m.dtype)
    chunk_decay = length * decay
    chunks = summary.m.shape[1]
    padding = (chunks * length - T) * decay  # the filler at the end must not age what passes over it
    if reverse:
        entry = entry._replace(m=entry.m + padding)

    def aged(state, age):
        return state._replace(m=state.m - age * chunk_decay)

    def step(carry, near):
        state, age = carry
        far = aged(state, age + 1)
        is_far = far.m >= near.m
        far_scale = jnp.exp(jnp.minimum(far.m - near.m, 0.0))
        near_scale = jnp.exp(jnp.minimum(near.m - far.m, 0.0))
        m = jnp.where(is_far, state.m, near.m)
        merged = State(m, state.a * far_scale + near.a * near_scale, state.b * far_scale + near.b * near_scale)
        return (merged, jnp.where(is_far, age + 1, 0.0)), aged(state, age)

    if chunks == 1:
        states = jax.tree.map(lambda x: x[:, None], entry)
        out = merge(entry, jax.tree.map(lambda x: x[:, 0], summary), decay, length)
    else:
        by_chunk = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), summary)
        (out, age), states = lax.scan(step, (entry, jnp.zeros_like(entry.m)), by_chunk, reverse=reverse)
        out = aged(out, age)
        states = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), states)
    if not reverse:
        out = out._replace(m=out.m + padding)
    return states, out


def _sweep(x, r, start, *, reverse: bool):
    """Exclusive decayed sums of two rows ``x`` [L, B, n, C] each, from the entry states ``start`` [B, n, C]."""

    def step(state, row):
        return (state[0] * r + row[0], state[1] * r + row[1]), state

    return lax.scan(step, start, x, reverse=reverse)[1]


def _rescale(state: State, ref):
    """(a, b) of ``state`` at the exponent ``ref``."""
    scale = jnp.exp(state.m - ref)
    return state.a * scale, state.b * scale


def _state_of_cotangent(cotangent: State, m) -> State:
    """The gradient with respect to a sum ``exp(m) * (a, b)``, as a state of (q, s) at exponent -m."""
    used = (cotangent.a != 0) | (cotangent.b != 0)
    return State(jnp.where(used, -m, EMPTY), cotangent.a, -cotangent.b)


def _cotangent_of_state(out: State, state: State) -> State:
    """The gradient with respect to (m, a, b) of the entry ``state``, from the sums (q, s) that leave beside it."""
    scale = jnp.exp(state.m + out.m)
    da, db = scale * out.a, -scale * out.b
    return State(state.a * da + state.b * db, da, db)


def _with_safe_length(run, T: int, decay):
    """``run(length)`` with the longest chunks that the decay allows, decided where the decay is known."""
    length = chunk_length(T)
    if length == 1:
        return run(1)()
    is_safe = jnp.max(jnp.abs(decay)).astype(jnp.float32) * length <= SAFE_EXPONENT
    return lax.cond(is_safe, run(length), run(1))


def chunk_length(T: int) -> int:
    """Chunks of at most CHUNK tokens, evened out so that the last one is not mostly filler."""
    return -(-T // -(-T // CHUNK))


def _rows(x, length: int, fill: float, dtype):
    """[B, T, C] -> [L, B, n, C], filled up behind the end."""
    B, T, C = x.shape
    chunks = -(-T // length)
    x = jnp.pad(x.astype(dtype), ((0, 0), (0, chunks * length - T), (0, 0)), constant_values=fill)
    return jnp.moveaxis(x.reshape(B, chunks, length, C), 2, 0)


def _join(rows, T: int):
    """[L, B, n, C] -> [B, T, C]."""
    length, B, chunks, C = rows.shape
    return jnp.moveaxis(rows, 0, 2).reshape(B, chunks * length, C)[:, :T]


def _is_token(length: int, T: int):
    """[L, 1, n, 1]: True where a row holds a token, not filler."""
    chunks = -(-T // length)
    return (jnp.arange(length)[:, None] + length * jnp.arange(chunks) < T)[:, None, :, None]


def _sum_rows(x):
    """[L, B, n, C] -> [C], one axis after the other: long float32 sums lose digits."""
    return x.sum(axis=0).sum(axis=1).sum(axis=0)


def _inner_dtype(v):
    return jnp.promote_types(v.dtype, jnp.float32)
