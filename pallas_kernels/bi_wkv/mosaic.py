"""Bi-WKV on NVIDIA GPUs from Ampere on: three kernels forward, three backward, each a pass over memory.

Chunk sums, carry, outputs; and the same again for the gradient, with (q, s) in the place of (v, 1) (see ``scan``). Any
shape is served: tokens are filled up to whole chunks, channels to whole warpgroups. A sequence of one chunk needs
neither sums nor carry. The forward pass saves what enters each chunk.
"""

from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from pallas_kernels.bi_wkv import mosaic_gradients, mosaic_kernels, mosaic_tiles
from pallas_kernels.bi_wkv.context_parallel import states_from_other_devices
from pallas_kernels.bi_wkv.piece import (
    LONGEST_CHUNK,
    TILE,
    Arguments,
    Carried,
    Channels,
    Ends,
    Piece,
    Tokens,
    unspent_decay,
)
from pallas_kernels.bi_wkv.state import EMPTY, State, empty_state, merge, nothing_like
from pallas_kernels.typing import Array, Float

Tree = TypeVar("Tree")  # arrays, in any structure


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass; None where a sequence is one chunk, which nothing enters."""

    m: Float[Array, "rows channels"]  # every chunk's largest k
    forward: Carried
    backward: Carried

    @property
    def states(self) -> tuple[Float[Array, "rows channels"], State, State]:
        return self.m, self.forward.states, self.backward.states


@partial(jax.jit, static_argnames="piece")  # traced and lowered once for all calls with the same shapes
def forward_pass(arguments: Arguments, piece: Piece) -> tuple[Tokens, Ends | None, _Saved | None]:
    """y, the states that leave the piece, and what is saved."""
    c, entry = _Cut(arguments, piece), arguments[5]
    out = saved = None
    if not c.is_alone:
        m, fa, fb, ga, gb = mosaic_kernels.sums(c.table, c.k, c.v, **c.options)
        to_left = State(m, ga, gb)
        saved = _Saved(m, *c.carry(State(m, fa, fb), nothing_like(to_left) if piece.causal else to_left, entry))
        out = None if entry is None else (c.narrow(saved.forward.out), c.narrow(saved.backward.out))
    states = None if saved is None else saved.states
    y = mosaic_kernels.outputs(c.table, c.k, c.v, c.receptance, states, causal=piece.causal, **c.options)
    return c.join(y), out, saved


@partial(jax.jit, static_argnames="piece")
def backward_pass(
    arguments: Arguments, g: Tokens, ends: Ends | None, saved: _Saved | None, piece: Piece
) -> tuple[Tokens, Tokens, Tokens | None, Channels, Channels, State | None, State | None]:
    """Gradients of k, v, receptance, decay and bonus, and the states of (q, s) that leave to the right and left."""
    c = _Cut(arguments, piece)
    options = {"causal": piece.causal, **c.options}
    states = None if saved is None else saved.states
    rows = c.table, c.k, c.v, c.receptance, c.rows(g, 0.0), states
    carried = p_out = r_out = None
    passing = jnp.float32(0)
    if saved is not None:
        m, forward, backward = saved.states
        pq, ps, rq, rs = mosaic_gradients.gradient_sums(*rows, **options)
        to_right = State(-jnp.maximum(backward.m, m), pq, ps)
        p, r = c.carry(to_right, State(-jnp.maximum(forward.m, m), rq, rs), ends)
        carried, p_out, r_out = (p.states, r.states), c.narrow(p.out), c.narrow(r.out)
        passing = c.filler * unspent_decay(saved.forward, saved.backward, p, r)
    dk, dv, d_decay, d_bonus, *d_receptance = mosaic_gradients.gradients(*rows, carried, **options)
    d_decay, d_bonus = (c.by_sequence(x).sum(axis=1).sum(axis=0) for x in (d_decay, d_bonus))
    d_gate = c.join(d_receptance[0]) if d_receptance else None
    return c.join(dk), c.join(dv), d_gate, c.narrow(d_decay + passing), c.narrow(d_bonus), p_out, r_out


class _Cut:
    """A sequence in chunks, filled up to what the kernels take."""

    def __init__(self, arguments: Arguments, piece: Piece) -> None:
        k, v, decay, bonus, receptance, entry = arguments
        self.shape, self.piece = k.shape, piece
        self.length, tile = _chunk_length(k.shape[1], piece)
        self.options = {"tile": tile, "interpret": piece.interpret}
        self.chunks = -(-k.shape[1] // self.length)
        self.filler = self.chunks * self.length - k.shape[1]
        self.is_alone = self.chunks == 1 and entry is None and piece.axis_name is None  # nothing enters that one chunk
        self.k, self.v = self.rows(k, -jnp.inf), self.rows(v, 0.0)
        self.receptance = None if receptance is None else self.rows(receptance, 0.0)
        self.channels = self.k.shape[2]
        self.decay, bonus = (self.widen(x.astype(jnp.float32)) for x in (decay, bonus))
        r, own = (jnp.broadcast_to(jnp.exp(x), (mosaic_tiles.ROWS, self.channels)) for x in (-self.decay, bonus))
        self.table = mosaic_tiles.Table(r, own)

    def rows(self, x: Tokens, fill: float) -> Float[Array, "rows L channels"]:
        """Filled up to whole chunks, rows and channels."""
        B, _, C = x.shape
        x = jnp.pad(x, ((0, 0), (0, self.filler), (0, -C % mosaic_tiles.LANES)), constant_values=fill)
        x = x.reshape(B * self.chunks, self.length, x.shape[2])
        return jnp.pad(x, ((0, -x.shape[0] % mosaic_tiles.ROWS), (0, 0), (0, 0)), constant_values=fill)

    def join(self, rows: Float[Array, "rows L channels"]) -> Tokens:
        B, T, C = self.shape
        return rows[: B * self.chunks].reshape(B, -1, rows.shape[2])[:, :T, :C]

    def by_sequence(self, x: Float[Array, "rows channels"]) -> Float[Array, "B n channels"]:
        return x[: self.shape[0] * self.chunks].reshape(self.shape[0], self.chunks, x.shape[-1])

    def widen(self, x: Float[Array, "*B C"], fill: float = 0.0) -> Float[Array, "*B channels"]:
        return jnp.pad(x, (*((0, 0),) * (x.ndim - 1), (0, self.channels - x.shape[-1])), constant_values=fill)

    def narrow(self, x: Tree) -> Tree:
        """[..., channels] -> [..., C], of all arrays."""
        narrowed: Tree = jax.tree.map(lambda y: y[..., : self.shape[2]], x)
        return narrowed

    def carry(self, to_right: State, to_left: State, ends: Ends | None) -> tuple[Carried, Carried]:
        """From every chunk's own sums [rows, channels] and the states [B, C] at both ends: what enters each chunk."""
        B, n = self.shape[0], self.chunks
        runs = [jax.tree.map(self.by_sequence, x) for x in (to_right, to_left)]
        # Both directions in one kernel, side by side; a run more than there are, before which stands what leaves.
        in_order = runs[0], jax.tree.map(lambda x: jnp.flip(x, axis=1), runs[1])
        filler = -(n + 1) % mosaic_tiles.CARRY_TILE + 1

        def lanes(
            right: Float[Array, "B n channels"], left: Float[Array, "B n channels"], fill: float
        ) -> Float[Array, "filled lanes"]:
            both = jnp.moveaxis(jnp.stack([right, left]), 2, 0).reshape(n, -1)  # from [2, B, n, channels]
            return jnp.pad(both, ((0, filler), (0, 0)), constant_values=fill)

        sums = State(*map(lanes, *in_order, (EMPTY, 0.0, 0.0)))
        passing = mosaic_kernels.carry(jnp.tile(self.length * self.decay, 2 * B), sums, interpret=self.piece.interpret)
        right, left = (
            State(*(jnp.moveaxis(x.reshape(-1, 2, B, self.channels)[: n + 1, side], 0, 1) for x in passing))
            for side in (0, 1)
        )
        if self.piece.axis_name is not None:
            totals = self._shift(self._last(right), self.filler), self._last(left)
            ends = states_from_other_devices(*totals, self.decay, self.shape[1], self.piece.axis_name)
        elif ends is not None:
            before, behind = (State(*map(self.widen, end, (EMPTY, 0.0, 0.0))) for end in ends)
            ends = before, behind
        return self._with_end(right, ends and ends[0], False), self._with_end(left, ends and ends[1], True)

    def _with_end(self, passing: State, end: State | None, reverse: bool) -> Carried:
        """Behind ``end`` [B, channels], from what passes between the chunks alone, [B, n + 1, channels]."""
        entry = empty_state(self.shape[0], self.channels) if end is None else end
        if end is not None:
            tokens_between = self.length * jnp.arange(self.chunks + 1, dtype=jnp.float32)[:, None]
            far = self._shift(end, self.filler) if reverse else end
            passing = merge(jax.tree.map(lambda x: x[:, None], far), passing, self.decay, tokens_between)
        out = self._last(passing)
        states = jax.tree.map(lambda x: jnp.flip(x[:, :-1], axis=1) if reverse else x[:, :-1], passing)
        return Carried(jax.tree.map(self._as_rows, states), entry, out if reverse else self._shift(out, self.filler))

    def _shift(self, state: State, steps: int) -> State:
        """As it would be, had it passed over so many tokens less: those that fill up the last chunk are none."""
        return state._replace(m=state.m + steps * self.decay)

    @staticmethod
    def _last(passing: State) -> State:
        last: State = jax.tree.map(lambda x: x[:, -1], passing)
        return last

    def _as_rows(self, x: Float[Array, "B n channels"]) -> Float[Array, "rows channels"]:
        return jnp.pad(x.reshape(-1, self.channels), ((0, self.k.shape[0] - x.shape[0] * x.shape[1]), (0, 0)))


def _chunk_length(T: int, piece: Piece) -> tuple[int, int]:
    """Tokens of a chunk, as many as the decay allows, and of a tile."""
    longest = int(min(LONGEST_CHUNK, piece.longest_chunk))
    if longest < TILE:
        return 1, 1
    return min(longest // TILE, -(-T // TILE)) * TILE, TILE
