"""Bi-WKV in plain JAX, for the CPU and for every accelerator the GPU kernels don't cover.

The sequence is cut into n chunks of L <= 16 tokens. Every chunk is summed up on its own; a short scan over the chunks
carries the sums from left to right and from right to left; then every token adds up the tokens of its own chunk one by
one, and the two states that enter the chunk. Those L^2 multiply-adds cost less than a recurrence, each step of which
goes through memory. Chunks are worked on in blocks that fit a cache, so little memory is needed beside the arrays.

One reference exponent serves a whole chunk, so that nothing drifts. That is safe while ``L * |decay|`` stays below
``SAFE_EXPONENT``; stronger decays take the same code with chunks of one token, in which every exponential is taken of a
difference to a running maximum.

Backward, with g = dL/dy, D the denominator, q = g/D, s = q*y and W_ti the weights of the formula without their exp(k):

    dv_t = e^k_t sum_i W_ti q_i            dk_t = e^k_t (v_t sum_i W_ti q_i - sum_i W_ti s_i)

so (q, s) is carried over the chunks as (v, 1) e^k is in the forward pass. What travels to the right (P) is the gradient
with respect to the backward state, and what travels to the left (R) that with respect to the forward state, but for the
sign of s.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.blocks import by_blocks
from pallas_kernels.bi_wkv.context_parallel import states_from_other_devices
from pallas_kernels.bi_wkv.state import EMPTY, State, carry, empty_state, nothing_like

LONGEST_CHUNK = 16  # tokens
CHANNEL_GROUP = 16
SAFE_EXPONENT = 40.0  # exp(+-40) squared still fits in float32


def bi_wkv_scan(k, v, decay, bonus, receptance=None):
    """Bi-WKV over whole sequences; arguments and result as for ``bi_wkv``."""
    return bi_wkv_scan_piece(k, v, decay, bonus, receptance, None, Piece())[0]


class Piece(NamedTuple):
    """What a piece of a sequence is, beside its tokens."""

    causal: bool = False  # tokens behind a token don't count
    axis_name: str | None = None  # the axis of devices that the sequence is spread over, under shard_map


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def bi_wkv_scan_piece(k, v, decay, bonus, receptance, entry: tuple[State, State] | None, piece: Piece):
    """Bi-WKV over a piece of a sequence, between the states of what lies before it and behind it.

    Args:
        entry: forward and backward state, [B, C]; None: k and v (with those of the other devices) are the whole.

    Returns:
        y as for ``bi_wkv``; the forward state behind the piece and the backward state before it (None for a whole).
    """

    def run(length, arguments):
        c = _cut(*arguments, length, piece)
        y = by_blocks(lambda x: _forward(c.table, *x), (c.tokens, c.forward.states, c.backward.states))
        return _join(y, arguments[0].shape), None if entry is None else (c.forward.out, c.backward.out)

    return _with_safe_length(run, k, decay, (k, v, decay, bonus, receptance, entry))


def _forward_rule(k, v, decay, bonus, receptance, entry, piece):
    y, out = bi_wkv_scan_piece(k, v, decay, bonus, receptance, entry, piece)
    return (y, out), (k, v, decay, bonus, receptance, entry, out)


def _backward_rule(piece, residuals, cotangents):
    *arguments, out = residuals
    k, v, decay, bonus, _, entry = arguments
    g, d_out = cotangents
    # What leaves on the right is carried to the left, and the other way round.
    ends = None if entry is None else tuple(map(_state_of_cotangent, d_out, out))[::-1]

    def run(length, arguments):
        arguments, g, ends = arguments
        c = _cut(*arguments, length, piece)
        chunks = c.tokens, c.forward.states, c.backward.states, _rows(g, length, 0.0)
        dk, dv, d_receptance, d_decay, d_bonus, p, r = by_blocks(lambda x: _gradients_inside(c.table, *x), chunks)
        if piece.causal:
            p = nothing_like(p)
        p, r = c.carry(p, r, ends)
        if not c.is_alone:
            across = c.tokens._replace(receptance=None), dk, dv, p.states, r.states
            dk, dv, d_decay_across = by_blocks(lambda x: _gradients_across(c.table, *x), across)
            d_decay = d_decay + d_decay_across
        d_decay, d_bonus = (c.by_sequence(x).sum(axis=1).sum(axis=0) for x in (d_decay, d_bonus))
        d_decay = d_decay + c.gradient_of_passing(p, r)
        dk, dv, d_receptance = jax.tree.map(partial(_join, shape=g.shape), (dk, dv, d_receptance))
        return dk.astype(k.dtype), dv.astype(v.dtype), d_receptance, d_decay, d_bonus, p.out, r.out

    dk, dv, d_receptance, d_decay, d_bonus, p_out, r_out = _with_safe_length(run, k, decay, (arguments, g, ends))
    d_entry = None if entry is None else tuple(map(_cotangent_of_state, (r_out, p_out), entry))
    return dk, dv, d_decay.astype(decay.dtype), d_bonus.astype(bonus.dtype), d_receptance, d_entry


bi_wkv_scan_piece.defvjp(_forward_rule, _backward_rule)


class _Table(NamedTuple):
    """Weights between the tokens of one chunk, from decay and bonus."""

    inside: jax.Array  # W, [L, L, C]
    back: jax.Array  # W for the gradient: transposed
    back_steps: jax.Array  # that times the number of steps that the decay counts
    left: jax.Array  # of a state that enters from the left, [L, C]
    left_steps: jax.Array
    right: jax.Array
    right_steps: jax.Array
    own: jax.Array  # exp(bonus), [C]


class _Tokens(NamedTuple):
    """Arguments with a row for every token, as [rows, L, C]: B * n rows, each a chunk."""

    k: jax.Array
    v: jax.Array
    receptance: jax.Array | None


class _Carried(NamedTuple):
    states: State  # what enters each chunk, [rows, C]
    entry: State  # what entered the piece, [B, C]
    out: State  # what left it at the other end


class _Cut(NamedTuple):
    """A sequence in chunks."""

    tokens: _Tokens
    table: _Table
    decay: jax.Array
    batch: int
    length: int
    filler: int
    piece: Piece
    is_alone: bool  # a single chunk with nothing beside it
    forward: _Carried | None = None
    backward: _Carried | None = None

    def by_sequence(self, x):
        """[rows, C] -> [B, n, C]."""
        return x.reshape(self.batch, -1, x.shape[-1])

    def carry(self, to_right: State, to_left: State, ends: tuple[State, State] | None) -> tuple[_Carried, _Carried]:
        """From every chunk's own sums [rows, C] and the states [B, C] at both ends: what enters each chunk."""
        if self.is_alone:
            empty = empty_state(self.batch, self.decay.shape[0], self.decay.dtype)
            return (_Carried(empty, empty, empty),) * 2
        runs = [jax.tree.map(self.by_sequence, x) for x in (to_right, to_left)]
        empty = nothing_like(jax.tree.map(lambda x: x[:, 0], runs[0]))

        def carried(run, end, reverse):
            states, out = carry(run, end, self.decay, self.length, reverse=reverse, filler=self.filler)
            return _Carried(jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), states), end, out)

        if self.piece.axis_name is not None:
            right_total, left_total = carried(runs[0], empty, False).out, carried(runs[1], empty, True).out
            tokens = runs[0].m.shape[1] * self.length - self.filler
            ends = states_from_other_devices(right_total, left_total, self.decay, tokens, self.piece.axis_name)
        ends = ends or (empty, empty)
        right, left = carried(runs[0], ends[0], False), carried(runs[1], ends[1], True)
        return right, left

    def gradient_of_passing(self, p: _Carried, r: _Carried):
        """The gradient with respect to decay of what the states lose on their way through the chunks, [C]."""

        def overlap(state, cotangent, length):
            scale = jnp.exp(state.m + cotangent.m - length * self.decay)
            return jnp.sum(scale * (state.a * cotangent.a - state.b * cotangent.b), axis=0)

        if self.is_alone or self.forward is None or self.backward is None:
            return 0.0
        loss = overlap(self.forward.states, r.states, self.length) + overlap(
            self.backward.states, p.states, self.length
        )
        unspent = overlap(self.forward.out, r.entry, 0) + overlap(self.backward.entry, p.out, 0)
        return self.filler * unspent - self.length * loss


def _cut(k, v, decay, bonus, receptance, entry, length, piece) -> _Cut:
    dtype = _inner_dtype(v)
    B, T, _ = k.shape
    chunks = -(-T // length)
    decay = decay.astype(dtype)
    table = _table(decay, bonus.astype(dtype), length, piece.causal)
    gates = None if receptance is None else _rows(receptance, length, 0.0)
    tokens = _Tokens(_rows(k, length, -jnp.inf), _rows(v, length, 0.0), gates)
    is_alone = chunks == 1 and entry is None and piece.axis_name is None
    c = _Cut(tokens, table, decay, B, length, chunks * length - T, piece, is_alone)
    sums: Any = (None, None) if is_alone else by_blocks(lambda x: _sums(table, *x), (tokens.k, tokens.v))
    if piece.causal and not is_alone:
        sums = sums[0], nothing_like(sums[1])
    forward, backward = c.carry(sums[0], sums[1], entry)
    return c._replace(forward=forward, backward=backward)


def _table(decay, bonus, length, causal) -> _Table:
    position = jnp.arange(length, dtype=decay.dtype)[:, None]
    distance = jnp.abs(position - position.T)[..., None]
    steps = jnp.maximum(distance - 1, 0)
    inside = jnp.exp(jnp.where(distance == 0, bonus, -steps * decay))
    to_right = length - 1 - position
    left, right = jnp.exp(-position * decay), jnp.exp(-to_right * decay)
    if causal:
        inside = jnp.where((position >= position.T)[..., None], inside, 0.0)
    back = inside.swapaxes(0, 1) if causal else inside
    # The barrier keeps XLA from taking these exponentials again for every token.
    return lax.optimization_barrier(
        _Table(inside, back, steps * back, left, position * left, right, to_right * right, jnp.exp(bonus))
    )


class _Chunks(NamedTuple):
    """Chunks between the states that enter them, everything at one reference exponent per chunk and channel."""

    x: tuple[jax.Array, jax.Array]  # e^(k - m) v and e^(k - m), [rows, L, C]
    ref: jax.Array  # [rows, 1, C]
    scale: jax.Array  # e^(m - ref)
    forward: tuple[jax.Array, jax.Array]
    backward: tuple[jax.Array, jax.Array]

    @classmethod
    def open(cls, tokens: _Tokens, forward: State, backward: State) -> "_Chunks":
        m, x = _weigh(tokens.k, tokens.v)
        forward, backward = _per_token(forward), _per_token(backward)
        ref = jnp.maximum(jnp.maximum(forward.m, backward.m), m)
        states = (_at(forward, ref), _at(backward, ref))
        return cls(x, *lax.optimization_barrier((ref, jnp.exp(m - ref), *states)))

    def quotient(self, table: _Table):
        """Numerator and denominator of every token's mean."""
        return tuple(
            self.scale * _mix(table.inside, x) + table.left * f + table.right * g
            for x, f, g in zip(self.x, self.forward, self.backward, strict=True)
        )


def _forward(table: _Table, tokens: _Tokens, forward: State, backward: State):
    numerator, denominator = _Chunks.open(tokens, forward, backward).quotient(table)
    y = numerator / denominator
    if tokens.receptance is not None:
        y = jax.nn.sigmoid(tokens.receptance.astype(y.dtype)) * y
    return y.astype(tokens.v.dtype)


def _sums(table: _Table, k, v) -> tuple[State, State]:
    """What each chunk adds to the forward and to the backward state."""
    m, x = _weigh(k, v)
    forward, backward = ([_add_up(weight, y) for y in x] for weight in (table.right, table.left))
    return State(m[:, 0], *forward), State(m[:, 0], *backward)


def _gradients_inside(table: _Table, tokens: _Tokens, forward: State, backward: State, g):
    """What every chunk's own results say about its tokens, and its sums of (q, s) for the chunks beside it."""
    c = _Chunks.open(tokens, forward, backward)
    numerator, denominator = lax.optimization_barrier(c.quotient(table))
    y = numerator / denominator
    g, d_receptance = g.astype(y.dtype), None
    if tokens.receptance is not None:
        gate = jax.nn.sigmoid(tokens.receptance.astype(y.dtype))
        d_receptance = (g * y * gate * (1 - gate)).astype(tokens.receptance.dtype)
        g = g * gate
    q = g / denominator
    q, s = lax.optimization_barrier((q, q * y))
    ev, e = (c.scale * x for x in c.x)
    q_inside, s_inside = lax.optimization_barrier((_mix(table.back, q), _mix(table.back, s)))
    dv, dk = e * q_inside, ev * q_inside - e * s_inside
    d_bonus = table.own * _add_up(None, ev * q - e * s)
    entering = [table.left_steps * f + table.right_steps * b for f, b in zip(c.forward, c.backward, strict=True)]
    passing = ev * _mix(table.back_steps, q) - e * _mix(table.back_steps, s) + q * entering[0] - s * entering[1]
    d_decay = -_add_up(None, lax.optimization_barrier(passing))
    p, r = (State(-c.ref[:, 0], _add_up(w, q), _add_up(w, s)) for w in (table.right, table.left))
    return dk, dv, d_receptance, d_decay, d_bonus, p, r


def _gradients_across(table: _Table, tokens: _Tokens, dk, dv, p: State, r: State):
    """``dk`` and ``dv`` with what the results to the left (p) and to the right (r) of a chunk say about its tokens."""
    m, (ev, e) = _weigh(tokens.k, tokens.v)
    p, r = lax.optimization_barrier((_at(_per_token(p), -m), _at(_per_token(r), -m)))
    q, s = (table.left * x + table.right * y for x, y in zip(p, r, strict=True))
    q_steps, s_steps = (table.left_steps * x + table.right_steps * y for x, y in zip(p, r, strict=True))
    dk, dv = dk + ev * q - e * s, dv + e * q
    d_decay = -_add_up(None, ev * q_steps - e * s_steps)
    return dk.astype(tokens.k.dtype), dv.astype(tokens.v.dtype), d_decay


def _weigh(k, v):
    """[rows, L, C] -> every chunk's largest k, [rows, 1, C], and (e^(k - m) v, e^(k - m))."""
    dtype = _inner_dtype(v)
    k, v = k.astype(dtype), v.astype(dtype)
    m = jnp.maximum(k.max(axis=1, keepdims=True), EMPTY)  # EMPTY, so that tokens masked by k = -inf weigh nothing
    e = lax.optimization_barrier(jnp.exp(k - m))
    return m, (lax.optimization_barrier(e * v), e)


def _mix(weights, x):
    """sum_i weights[t, i] x[:, i] for all t, [rows, L, C]: written out, it is one loop over the memory."""
    return sum(weights[:, i] * x[:, i : i + 1] for i in range(x.shape[1]))


def _add_up(weight, x):
    """sum_i weight[i] x[:, i], [rows, C]; None: weights of 1.

    Written out, because a sum into which XLA fuses what is summed can take ten times as long on CPUs.
    """
    return sum(x[:, i] if weight is None else weight[i] * x[:, i] for i in range(x.shape[1]))


def _per_token(state: State) -> State:
    return jax.tree.map(lambda x: x[:, None], state)


def _at(state: State, ref):
    """(a, b) of ``state`` at the exponent ``ref``."""
    scale = jnp.exp(state.m - ref)
    return state.a * scale, state.b * scale


def _state_of_cotangent(cotangent: State, state: State) -> State:
    """The gradient with respect to a sum ``exp(m) * (a, b)``, as a state of (q, s) at exponent -m."""
    used = ((cotangent.a != 0) | (cotangent.b != 0)) & (state.m > EMPTY / 2)
    return State(jnp.where(used, -state.m, EMPTY), cotangent.a, -cotangent.b)


def _cotangent_of_state(out: State, state: State) -> State:
    """The gradient with respect to (m, a, b) of the entry ``state``, from the sums (q, s) that leave beside it."""
    scale = jnp.exp(state.m + out.m)
    da, db = scale * out.a, -scale * out.b
    return State(state.a * da + state.b * db, da, db)


def _with_safe_length(run, k, decay, arguments):
    """``run(length, arguments)`` with the longest chunks that the decay allows, decided where the decay is known."""
    length = chunk_length(k.shape[1])
    result = run(length, arguments)
    if length == 1:
        return result
    return fall_back(result, partial(_by_channels, partial(run, 1), arguments), decay, length)


def fall_back(result, otherwise, decay, length: int):
    """``result``, got from chunks of ``length``, or ``otherwise()`` where the decay was too strong for them.

    A loop of no or one turn, not a conditional: under vmap it still skips what no element needs.
    """
    is_safe = jnp.max(jnp.abs(decay)).astype(jnp.float32) * length <= SAFE_EXPONENT
    return lax.while_loop(lambda x: ~x[0], lambda x: (jnp.ones_like(x[0]), otherwise()), (is_safe, result))[1]


def _by_channels(f, arrays):
    """``f`` over a few channels (the last axis) at a time: a state per token is much memory, and channels don't mix."""
    channels = jax.tree.leaves(arrays)[0].shape[-1]
    group = max(size for size in range(1, min(channels, CHANNEL_GROUP) + 1) if channels % size == 0)

    def one(start):
        return f(jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, group, axis=-1), arrays))

    outputs = lax.map(one, jnp.arange(0, channels, group))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], channels), outputs)


def chunk_length(T: int) -> int:
    """Up to LONGEST_CHUNK tokens: the length that leaves the fewest to fill up in the last chunk."""
    if T <= LONGEST_CHUNK:
        return T
    return min(range(LONGEST_CHUNK, LONGEST_CHUNK // 2, -1), key=lambda length: -T % length)


def _rows(x, length: int, fill: float):
    """[B, T, C] -> [B * n, L, C], filled up behind the end."""
    B, T, C = x.shape
    chunks = -(-T // length)
    if chunks * length > T:
        x = jnp.pad(x, ((0, 0), (0, chunks * length - T), (0, 0)), constant_values=fill)
    return x.reshape(B * chunks, length, C)


def _join(rows, shape):
    """[B * n, L, C] -> [B, T, C]."""
    B, T, C = shape
    return rows.reshape(B, -1, C)[:, :T]


def _inner_dtype(v):
    return jnp.promote_types(v.dtype, jnp.float32)
