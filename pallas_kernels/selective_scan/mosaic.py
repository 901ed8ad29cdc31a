"""The selective scan on NVIDIA GPUs from Ampere on: three kernels forward, three backward, each a pass over memory.

Chunk sums, carry, outputs; and the same again for the gradient, from the other end. Any shape is served: tokens are
filled up to whole chunks, channels to whole warpgroups, states to whole groups, all with zeros, which do nothing. A
sequence of one chunk that nothing enters needs neither sums nor carry. The forward pass saves what enters each chunk.

What must move, per token and channel, where x, y and g have 2 bytes and dt has 4, for L = 32 tokens of a chunk and
N = 16 states:

    forward     22 bytes: x and dt twice, y once; 16 N / L of states, of every chunk written, read and written by the
                carry, and read
    backward    42 bytes: dt and g twice, x, dx and ddt once; 28 N / L of states: as in the forward pass, and those of
                the forward pass read, and dA of every chunk written and read; N / 2 of quarters of sums, dB's and dC's

In one pass it would be 8 and 14. But each pass over the tokens takes N exponentials per channel and token, and the last
of the backward pass nearly N more: 32 and 44 for N = 16. An H200 copies 22 bytes in the time of 19 exponentials, and 42
bytes in that of 36 (4.3 TB/s, 132 * 16 per cycle at 1.75 GHz): so by count these are the limit, and not the memory.
"""

from functools import partial
from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.selective_scan import mosaic_gradients, mosaic_kernels
from pallas_kernels.selective_scan.mosaic_tiles import CHANNELS, GROUP, LANES, TILE
from pallas_kernels.selective_scan.piece import Arguments, Piece, State, Tokens
from pallas_kernels.selective_scan.state import from_other_devices
from pallas_kernels.typing import Array, Float

LONGEST_CHUNK = 32  # tokens

_Rows = Float[Array, "rows L blocks lanes"]
_States = Float[Array, "rows states blocks lanes"]  # N, filled up
_Entry = Float[Array, "B states blocks lanes"]


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass; None where a sequence is one chunk, which nothing enters."""

    states: Float[Array, "rows states blocks lanes"]  # that enter each chunk
    ages: Float[Array, "rows blocks lanes"]  # the sum of dt of each


@partial(jax.jit, static_argnames="piece")  # traced and lowered once for all calls with the same shapes
def forward_pass(arguments: Arguments, entry: State | None, piece: Piece) -> tuple[Tokens, State | None, _Saved | None]:
    """y, the state that leaves the piece, and what is saved."""
    c = _Cut(arguments, piece)
    out = saved = None
    if not c.is_alone(entry):
        own, ages = mosaic_kernels.sums(c.A, c.x, c.dt, c.B, **c.options)
        states, left = c.carry(own, ages, entry, reverse=piece.reverse)
        saved, out = _Saved(states, ages), None if entry is None else c.outer(left)
    entering = () if saved is None else (saved.states,)
    y = mosaic_kernels.outputs(c.A, c.D, c.x, c.dt, c.B, c.C, entering, **c.options)
    return c.join(y), out, saved


@partial(jax.jit, static_argnames="piece")
def backward_pass(
    arguments: Arguments, g: Tokens, d_out: State | None, saved: _Saved | None, piece: Piece
) -> tuple[Arguments, State | None]:
    """Gradients of the arguments and of the state that entered, from those of y and of the state that left."""
    c = _Cut(arguments, piece)
    g_rows = c.rows(g)
    d_entry: State | None = None
    entering: tuple[_States, ...] = ()
    if saved is not None:
        own = mosaic_gradients.gradient_sums(c.A, c.dt, c.C, g_rows, **c.options)
        q, left = c.carry(own, saved.ages, d_out, reverse=not piece.reverse)
        d_entry, entering = None if d_out is None else c.outer(left), (saved.states, q)
    dx, ddt, dA, dB, dC, dD = mosaic_gradients.gradients(c.A, c.D, c.x, c.dt, c.B, c.C, g_rows, entering, **c.options)
    E, N = arguments.A.shape
    dA = dA.sum(axis=0).reshape(dA.shape[1], -1)[:N, :E].T
    dB, dC = (c.join_states(x) for x in (dB, dC))
    return Arguments(c.join(dx), c.join(ddt), dA, dB, dC, dD.sum(axis=0).reshape(-1)[:E]), d_entry


class _Cut:
    """Sequences in chunks, filled up to what the kernels take: see ``mosaic_tiles``."""

    def __init__(self, arguments: Arguments, piece: Piece) -> None:
        x, dt, A, B, C, D = arguments
        self.piece, self.shape, self.states = piece, x.shape, A.shape[1]
        self.options = {"reverse": piece.reverse, "interpret": piece.interpret}
        self.length = min(LONGEST_CHUNK, -(-x.shape[1] // TILE) * TILE)
        self.chunks = -(-x.shape[1] // self.length)
        self.x, self.dt = self.rows(x), self.rows(dt)
        self.B, self.C = (self.filled(x, -self.states % GROUP).astype(jnp.float32) for x in (B, C))
        self.decay = self.wide(jnp.pad(A.astype(jnp.float32).T, ((0, -self.states % GROUP), (0, 0))))
        self.A, self.D = self.decay / log(2), self.wide(D.astype(jnp.float32))

    def is_alone(self, entry: State | None) -> bool:
        return self.chunks == 1 and entry is None and self.piece.axis_name is None

    def wide(self, x: Float[Array, "*n E"]) -> Float[Array, "*n blocks lanes"]:
        x = jnp.pad(x, (*((0, 0),) * (x.ndim - 1), (0, -x.shape[-1] % CHANNELS)))
        return x.reshape(*x.shape[:-1], -1, LANES)

    def filled(self, x: Float[Array, "B T X"], more: int) -> Float[Array, "rows L Y"]:
        x = jnp.pad(x, ((0, 0), (0, self.chunks * self.length - x.shape[1]), (0, more)))
        return x.reshape(-1, self.length, x.shape[2])

    def rows(self, x: Tokens) -> _Rows:
        return self.wide(self.filled(x, 0))

    def join(self, x: _Rows) -> Tokens:
        B, T, E = self.shape
        return x.reshape(B, self.chunks * self.length, -1)[:, :T, :E]

    def join_states(self, x: Float[Array, "rows L states"]) -> Float[Array, "B T N"]:
        B, T, _ = self.shape
        return x.reshape(B, self.chunks * self.length, -1)[:, :T, : self.states]

    def inner(self, state: State) -> _Entry:
        state = jnp.pad(state.astype(jnp.float32), ((0, 0), (0, 0), (0, -self.states % GROUP)))
        return self.wide(state.swapaxes(1, 2))

    def outer(self, state: _Entry) -> State:
        state = state.reshape(*state.shape[:2], -1)
        return state[:, : self.states, : self.shape[2]].swapaxes(1, 2)

    def carry(
        self, own: _States, ages: Float[Array, "rows blocks lanes"], entry: State | None, *, reverse: bool
    ) -> tuple[_States, _Entry]:
        """What enters each chunk, and what leaves the piece, from what each chunk leaves behind it alone."""
        own, ages = (x.reshape(self.shape[0], self.chunks, *x.shape[1:]) for x in (own, ages))
        enters = jnp.zeros_like(own[:, 0]) if entry is None else self.inner(entry)
        carry = partial(mosaic_kernels.carry, self.A, own, ages, reverse=reverse, interpret=self.piece.interpret)
        if self.piece.axis_name is not None:
            _, alone = carry(enters)  # nothing enters from elsewhere
            flat = alone.reshape(*alone.shape[:2], -1), ages.sum(axis=1).reshape(alone.shape[0], -1)
            A = self.decay.reshape(self.decay.shape[0], -1)
            enters = from_other_devices(*flat, A, self.piece.axis_name, reverse=reverse).reshape(alone.shape)
        states, left = carry(enters)
        return states.reshape(-1, *states.shape[2:]), left
