"""Bi-WKV in plain JAX, for the CPU and for every accelerator the GPU kernels don't cover.

The sequence is cut into n chunks of L <= 16 tokens. Every chunk is summed up on its own; a short scan over the chunks
carries the sums from left to right and from right to left; then every token adds up the tokens of its own chunk one by
one, and the two states that enter the chunk. Those L^2 multiply-adds cost less than a recurrence, each step of which
goes through memory. Chunks are worked on in blocks that fit a cache, so little memory is needed beside the arrays.

One reference exponent serves a whole chunk, so that nothing drifts; how long a chunk may be for that, ``piece`` says.
In chunks of one token, every exponential is taken of a difference to a running maximum.

Backward, with g = dL/dy, D the denominator, q = g/D, s = q*y and W_ti the weights of the formula without their exp(k):

    dv_t = e^k_t sum_i W_ti q_i            dk_t = e^k_t (v_t sum_i W_ti q_i - sum_i W_ti s_i)

so (q, s) is carried over the chunks as (v, 1) e^k is in the forward pass. What travels to the right (P) is the gradient
with respect to the backward state, and what travels to the left (R) that with respect to the forward state, but for the
sign of s. The forward pass saves y, 1/D and what enters each chunk; with them the backward pass needs one pass over the
tokens for what each chunk sends, and one for the gradients.
"""

from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.context_parallel import states_from_other_devices
from pallas_kernels.bi_wkv.piece import Arguments, Carried, Channels, Ends, Piece, Tokens, overlap, unspent_decay
from pallas_kernels.bi_wkv.state import EMPTY, State, carry, empty_state, nothing_like
from pallas_kernels.blocks import by_blocks
from pallas_kernels.typing import Array, Float

LONGEST_CHUNK = 16  # tokens
Arrays = TypeVar("Arrays")  # in any structure


class _Table(NamedTuple):
    """Weights between the tokens of one chunk, from decay and bonus."""

    inside: Float[Array, "L L C"]  # W
    back: Float[Array, "L L C"]  # W for the gradient: transposed
    back_steps: Float[Array, "L L C"]  # that times the number of steps that the decay counts
    left: Float[Array, "L C"]  # of a state that enters from the left
    left_steps: Float[Array, "L C"]
    right: Float[Array, "L C"]
    right_steps: Float[Array, "L C"]
    own: Float[Array, "C"]  # exp(bonus)


class _Tokens(NamedTuple):
    """Arguments with a row for every token: B * n rows, each a chunk."""

    k: Float[Array, "rows L C"]
    v: Float[Array, "rows L C"]
    receptance: Float[Array, "rows L C"] | None


_Rows = Float[Array, "rows L C"]
_OfChunk = Float[Array, "rows 1 C"]
_Results = tuple[_Rows | None, _Rows, _Rows, _Rows]  # receptance, gradient of y, ``_Saved.mean`` and ``weight``


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    mean: Float[Array, "B T C"]  # y before the gate
    weight: Float[Array, "rows L C"]  # 1 / D at the chunk's reference exponent
    m: Float[Array, "rows C"]  # every chunk's largest k
    forward: Carried
    backward: Carried


def forward_pass(arguments: Arguments, piece: Piece) -> tuple[Tokens, Ends | None, _Saved]:
    """y, the states that leave the piece, and what is saved."""
    y, out, saved = _forward_pass(arguments, piece)
    if y.dtype == saved.mean.dtype and arguments[4] is None:
        saved = saved._replace(mean=y)  # the same numbers, kept once
    return y, out, saved


@partial(jax.jit, static_argnames="piece")  # traced and lowered once for all calls with the same shapes
def _forward_pass(arguments: Arguments, piece: Piece) -> tuple[Tokens, Ends | None, _Saved]:
    c, entry = _Cut(arguments, piece), arguments[5]
    forward = backward = c.nothing
    if not c.is_alone:
        to_right, to_left = by_blocks(lambda x: _sums(c.table, *x), c.tokens[:2])
        forward, backward = c.carry(to_right, nothing_like(to_left) if piece.causal else to_left, entry)
    chunks = c.tokens, forward.states, backward.states
    y, mean, weight, m = by_blocks(lambda x: _means(c.table, *x), chunks)
    out = None if entry is None else (forward.out, backward.out)
    return c.join(y), out, _Saved(c.join(mean), weight, m, forward, backward)


@partial(jax.jit, static_argnames="piece")
def backward_pass(
    arguments: Arguments, g: Tokens, ends: Ends | None, saved: _Saved, piece: Piece
) -> tuple[Tokens, Tokens, Tokens | None, Channels, Channels, State, State]:
    """Gradients of k, v, receptance, decay and bonus, and the states of (q, s) that leave to the right and left."""
    c = _Cut(arguments, piece)
    g, mean = (_rows(x, c.length, 0.0) for x in (g, saved.mean))
    results = c.tokens.receptance, g, mean, saved.weight
    states = saved.forward.states, saved.backward.states
    p = r = c.nothing
    if not c.is_alone:
        to_right, to_left = by_blocks(lambda x: _gradient_sums(c.table, *x), (results, saved.m, *states))
        p, r = c.carry(nothing_like(to_right) if piece.causal else to_right, to_left, ends)
    chunks = c.tokens, results, saved.m, *states, p.states, r.states
    dk, dv, d_receptance, d_decay, d_bonus = by_blocks(lambda x: _gradients(c.table, *x), chunks)
    d_decay, d_bonus = (c.by_sequence(x).sum(axis=1).sum(axis=0) for x in (d_decay, d_bonus))
    d_decay = d_decay + c.gradient_of_passing(saved, p, r)
    dk, dv, d_receptance = jax.tree.map(c.join, (dk, dv, d_receptance))
    return dk, dv, d_receptance, d_decay, d_bonus, p.out, r.out


class _Cut:
    """A sequence in n chunks of L tokens."""

    def __init__(self, arguments: Arguments, piece: Piece) -> None:
        k, v, decay, bonus, receptance, entry = arguments
        dtype = _inner_dtype(v)
        length = _chunk_length(k.shape[1], piece)
        self.shape, self.length, self.piece = k.shape, length, piece
        chunks = -(-k.shape[1] // length)
        self.filler = chunks * length - k.shape[1]
        self.is_alone = chunks == 1 and entry is None and piece.axis_name is None  # nothing enters that one chunk
        self.decay = decay.astype(dtype)
        self.table = _table(self.decay, bonus.astype(dtype), length, piece.causal)
        gates = None if receptance is None else _rows(receptance, length, 0.0)
        self.tokens = _Tokens(_rows(k, length, -jnp.inf), _rows(v, length, 0.0), gates)

    def by_sequence(self, x: Float[Array, "rows C"]) -> Float[Array, "B n C"]:
        return x.reshape(self.shape[0], -1, x.shape[-1])

    def join(self, rows: Float[Array, "rows L C"]) -> Tokens:
        B, T, C = self.shape
        return rows.reshape(B, -1, C)[:, :T]

    @property
    def nothing(self) -> Carried:
        empty = empty_state(self.shape[0], self.shape[2], self.decay.dtype)
        return Carried(empty, empty, empty)

    def carry(self, to_right: State, to_left: State, ends: Ends | None) -> tuple[Carried, Carried]:
        """From every chunk's own sums [rows, C] and the states [B, C] at both ends: what enters each chunk."""
        runs = [jax.tree.map(self.by_sequence, x) for x in (to_right, to_left)]
        empty = nothing_like(jax.tree.map(lambda x: x[:, 0], runs[0]))

        def carried(run: State, end: State, reverse: bool) -> Carried:
            states, out = carry(run, end, self.decay, self.length, reverse=reverse, filler=self.filler)
            return Carried(jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), states), end, out)

        if self.piece.axis_name is not None:
            right_total, left_total = carried(runs[0], empty, False).out, carried(runs[1], empty, True).out
            tokens = runs[0].m.shape[1] * self.length - self.filler
            ends = states_from_other_devices(right_total, left_total, self.decay, tokens, self.piece.axis_name)
        ends = ends or (empty, empty)
        right, left = carried(runs[0], ends[0], False), carried(runs[1], ends[1], True)
        return right, left

    def gradient_of_passing(self, saved: _Saved, p: Carried, r: Carried) -> Channels | float:
        """The gradient with respect to decay of what the states lose on their way through the chunks."""
        if self.is_alone:
            return 0.0
        spent = overlap(saved.forward.states, r.states, self.length * self.decay)
        spent += overlap(saved.backward.states, p.states, self.length * self.decay)
        return self.filler * unspent_decay(saved.forward, saved.backward, p, r) - self.length * spent


def _table(decay: Channels, bonus: Channels, length: int, causal: bool) -> _Table:
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
    return _kept(_Table(inside, back, steps * back, left, position * left, right, to_right * right, jnp.exp(bonus)))


def _sums(table: _Table, k: _Rows, v: _Rows) -> tuple[State, State]:
    """What each chunk adds to the forward and to the backward state."""
    m = _largest(k, v)
    x = _weigh(k, v, m)
    forward, backward = ([_add_up(weight, y) for y in x] for weight in (table.right, table.left))
    return State(m[:, 0], *forward), State(m[:, 0], *backward)


def _means(
    table: _Table, tokens: _Tokens, forward: State, backward: State
) -> tuple[_Rows, _Rows, _Rows, Float[Array, "rows C"]]:
    """y, and of ``_Saved``: mean, weight and m."""
    m = _largest(tokens.k, tokens.v)
    ref, scale = _reference(m, forward, backward)
    entering = _at(forward, ref), _at(backward, ref)
    numerator, denominator = (
        scale * _mix(table.inside, x) + table.left * f + table.right * b
        for x, f, b in zip(_weigh(tokens.k, tokens.v, m), *entering, strict=True)
    )
    numerator, denominator = _kept((numerator, denominator))
    y = mean = numerator / denominator  # exact where all values are the same
    if tokens.receptance is not None:
        y = jax.nn.sigmoid(tokens.receptance.astype(y.dtype)) * y
    return y.astype(tokens.v.dtype), mean, 1 / denominator, m[:, 0]


def _gradient_sums(
    table: _Table, results: _Results, m: Float[Array, "rows C"], forward: State, backward: State
) -> tuple[State, State]:
    """The sums of (q, s) that each chunk sends to the right and to the left."""
    ref, _ = _reference(m[:, None], forward, backward)
    x = _errors(*results)
    p, r = (State(-ref[:, 0], *(_add_up(weight, y) for y in x)) for weight in (table.right, table.left))
    return p, r


def _gradients(
    table: _Table,
    tokens: _Tokens,
    results: _Results,
    m: Float[Array, "rows C"],
    forward: State,
    backward: State,
    p: State,
    r: State,
) -> tuple[_Rows, _Rows, _Rows | None, Float[Array, "rows C"], Float[Array, "rows C"]]:
    """dk, dv, the gradient of receptance, and every chunk's share in those of decay and bonus."""
    receptance, g, mean, _ = results
    m = m[:, None]
    ref, scale = _reference(m, forward, backward)
    q, s = _errors(*results)
    ev, e = _weigh(tokens.k, tokens.v, m)
    before, behind = _at(p, -m), _at(r, -m)
    all_q, all_s = (
        scale * _mix(table.back, x) + table.left * x_p + table.right * x_r
        for x, x_p, x_r in zip((q, s), before, behind, strict=True)
    )
    all_q, all_s = _kept((all_q, all_s))
    dv, dk = e * all_q, ev * all_q - e * all_s
    d_bonus = table.own * scale[:, 0] * _add_up(None, ev * q - e * s)
    q_steps, s_steps = (
        scale * _mix(table.back_steps, x) + table.left_steps * x_p + table.right_steps * x_r
        for x, x_p, x_r in zip((q, s), before, behind, strict=True)
    )
    a_steps, b_steps = (
        table.left_steps * f + table.right_steps * b for f, b in zip(_at(forward, ref), _at(backward, ref), strict=True)
    )
    passing = ev * q_steps - e * s_steps + q * a_steps - s * b_steps
    d_decay = -_add_up(None, _kept(passing))
    d_receptance = None
    if receptance is not None:
        gate = jax.nn.sigmoid(receptance.astype(mean.dtype))
        d_receptance = (g.astype(mean.dtype) * mean * gate * (1 - gate)).astype(receptance.dtype)
    return dk.astype(tokens.k.dtype), dv.astype(tokens.v.dtype), d_receptance, d_decay, d_bonus


def _errors(receptance: _Rows | None, g: _Rows, mean: _Rows, weight: _Rows) -> tuple[_Rows, _Rows]:
    """(q, s), at the reference exponent of the forward pass."""
    g = g.astype(mean.dtype)
    if receptance is not None:
        g = g * jax.nn.sigmoid(receptance.astype(mean.dtype))
    q = g * weight
    return _kept((q, q * mean))


def _reference(m: _OfChunk, forward: State, backward: State) -> tuple[_OfChunk, _OfChunk]:
    """One reference exponent for a chunk and the states that enter it, and ``e^(m - reference)``."""
    ref = jnp.maximum(jnp.maximum(forward.m, backward.m)[:, None], m)
    return _kept((ref, jnp.exp(m - ref)))


def _largest(k: _Rows, v: _Rows) -> _OfChunk:
    """Every chunk's largest k; at least EMPTY, so that tokens masked by k = -inf weigh nothing."""
    return jnp.maximum(k.astype(_inner_dtype(v)).max(axis=1, keepdims=True), EMPTY)


def _weigh(k: _Rows, v: _Rows, m: _OfChunk) -> tuple[_Rows, _Rows]:
    """(e^(k - m) v, e^(k - m))."""
    dtype = _inner_dtype(v)
    e = _kept(jnp.exp(k.astype(dtype) - m))
    return _kept(e * v.astype(dtype)), e


def _mix(weights: Float[Array, "L L C"], x: _Rows) -> _Rows:
    """sum_i weights[t, i] x[:, i] for all t: written out, it is one loop over the memory."""
    # The sum of no tokens would be an int.
    return sum(weights[:, i] * x[:, i : i + 1] for i in range(x.shape[1]))  # type: ignore[return-value]


def _add_up(weight: Float[Array, "L C"] | None, x: _Rows) -> Float[Array, "rows C"]:
    """sum_i weight[i] x[:, i]; None: weights of 1.

    Written out, because a sum into which XLA fuses what is summed can take ten times as long on CPUs.
    """
    # The sum of no tokens would be an int.
    return sum(x[:, i] if weight is None else weight[i] * x[:, i] for i in range(x.shape[1]))  # type: ignore[return-value]


def _kept(arrays: Arrays) -> Arrays:
    """``arrays``, which XLA then computes once, and not again in each loop that reads them."""
    kept: Arrays = lax.optimization_barrier(arrays)
    return kept


def _at(state: State, ref: _OfChunk) -> tuple[_OfChunk, _OfChunk]:
    """(a, b) of ``state`` at the exponent ``ref``."""
    scale = jnp.exp(state.m[:, None] - ref)
    return _kept((state.a[:, None] * scale, state.b[:, None] * scale))


def _chunk_length(T: int, piece: Piece) -> int:
    """As many tokens as the decay allows, and of about as many the number that leaves the fewest to fill up."""
    longest = int(max(1, min(LONGEST_CHUNK, T, piece.longest_chunk)))
    return min(range(longest, longest // 2, -1), key=lambda length: -T % length)


def _rows(x: Tokens, length: int, fill: float) -> Float[Array, "rows {length} C"]:
    """Chunks, filled up behind the end."""
    B, T, C = x.shape
    chunks = -(-T // length)
    if chunks * length > T:
        x = jnp.pad(x, ((0, 0), (0, chunks * length - T), (0, 0)), constant_values=fill)
    return x.reshape(B * chunks, length, C)


def _inner_dtype(v: Array) -> jnp.dtype:
    return jnp.promote_types(v.dtype, jnp.float32)
