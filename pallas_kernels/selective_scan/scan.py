"""The selective scan in plain JAX, for the CPU and for every accelerator the GPU kernels don't cover.

Tokens are gone through one by one, and of the states only those between chunks of ``CHUNK`` tokens are kept. The
backward pass goes through the chunks from the other end, and computes the states within each of them again (as Mamba
does, section 3.3.2 of its paper). So it takes ``2 N / CHUNK`` arrays of the size of x beside arguments and results.

A CPU goes through a whole sequence like that: it has few cores, which share the channels; and through so many sequences
at a time that the states of a chunk fit a cache. Another accelerator would wait for most of itself; there the sequence
is cut into runs of about ``RUN`` tokens that are gone through side by side, at the cost of a pass before, for what each
run leaves behind it alone.
"""

from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.blocks import CPU_BLOCK, block_count, in_blocks
from pallas_kernels.device import target_device
from pallas_kernels.selective_scan.piece import Arguments, Piece, State, Tokens
from pallas_kernels.selective_scan.state import carry, from_other_devices
from pallas_kernels.typing import Array, Float

CHUNK = 16  # tokens
RUN = 256

_States = Float[Array, "R N E"]  # a row for every run of every sequence
_OfChannels = Float[Array, "R E"]
_OfStates = Float[Array, "R N"]
_Tree = TypeVar("_Tree")  # arrays, in any structure
_Saved = Float[Array, "B chunks runs N E"]  # what enters each chunk of each run


def forward_pass(arguments: Arguments, entry: State | None, piece: Piece) -> tuple[Tokens, State | None, _Saved]:
    """y, the state that leaves the piece, and what is saved."""
    y, out, saved = _forward_pass(arguments, entry, piece, _runs(arguments.x.shape[1]))
    return y, out, saved


def backward_pass(
    arguments: Arguments, g: Tokens, d_out: State | None, saved: _Saved, piece: Piece
) -> tuple[Arguments, State | None]:
    """Gradients of the arguments and of the state that entered, from those of y and of the state that left."""
    gradients, d_entry = _backward_pass(arguments, g, d_out, saved, piece, _runs(arguments.x.shape[1]))
    return gradients, d_entry


def _runs(T: int) -> int:
    return 1 if target_device().platform == "cpu" else -(-T // RUN)


def _blocks(arguments: Arguments, piece: Piece, runs: int) -> int:
    """In how many blocks of sequences they are gone through, one after the other."""
    B, N = arguments.x.shape[0], arguments.A.shape[1]
    alone = runs == 1 and piece.axis_name is None
    return block_count(B, arguments.x[:, :CHUNK].size * N, CPU_BLOCK) if alone else 1


@partial(jax.jit, static_argnames=("piece", "runs"))  # traced and lowered once for all calls with the same shapes
def _forward_pass(
    arguments: Arguments, entry: State | None, piece: Piece, runs: int
) -> tuple[Tokens, State | None, _Saved]:
    x, dt, A, B, C, D = arguments

    def of_some(block: tuple[Array, Array, Array, Array, State | None]) -> tuple[Tokens, State | None, _Saved]:
        x, dt, B, C, entry = block
        return _forward(Arguments(x, dt, A, B, C, D), entry, piece, runs)

    return in_blocks(of_some, (x, dt, B, C, entry), _blocks(arguments, piece, runs))


def _forward(arguments: Arguments, entry: State | None, piece: Piece, runs: int) -> tuple[Tokens, State | None, _Saved]:
    c = _Cut(arguments, piece, runs)
    h = c.nothing if entry is None else c.inner(entry)
    if c.has_neighbours:

        def pass_by(h: _States, token: _Token) -> tuple[_States, None]:
            return c.advance(h, c.inner_tokens(token))[1], None

        own, _ = lax.scan(pass_by, c.no_states, c.one_by_one(c.tokens), reverse=piece.reverse)
        h = c.entering(own, h, reverse=piece.reverse)

    def chunk(h: _States, tokens: _Token) -> tuple[_States, tuple[_States, Float[Array, "L R E"]]]:
        def step(h: _States, token: _Token) -> tuple[_States, _OfChannels]:
            _, h = c.advance(h, token)
            y = jnp.einsum("rne,rn->re", h, token.C, precision="highest")
            return h, (y + c.D * token.x).astype(arguments.x.dtype)

        out, y = lax.scan(step, h, c.inner_tokens(tokens), reverse=piece.reverse)
        return out, (h, y)

    h, (saved, y) = lax.scan(chunk, h, c.tokens, reverse=piece.reverse)
    saved = saved.reshape(c.chunks, runs, c.batch, *c.A.shape).transpose(2, 0, 1, 3, 4)
    return c.join(y), None if entry is None else c.outer(h, last=not piece.reverse), saved


@partial(jax.jit, static_argnames=("piece", "runs"))
def _backward_pass(
    arguments: Arguments, g: Tokens, d_out: State | None, saved: _Saved, piece: Piece, runs: int
) -> tuple[Arguments, State | None]:
    x, dt, A, B, C, D = arguments

    def of_some(
        block: tuple[Array, Array, Array, Array, Tokens, State | None, _Saved],
    ) -> tuple[tuple[Array, ...], State | None]:
        x, dt, B, C, g, d_out, saved = block
        return _backward(Arguments(x, dt, A, B, C, D), g, d_out, saved, piece, runs)

    blocks = _blocks(arguments, piece, runs)
    (dx, d_dt, dA, dB, dC, dD), d_entry = in_blocks(of_some, (x, dt, B, C, g, d_out, saved), blocks)
    return Arguments(dx, d_dt, dA.sum(axis=0).T, dB, dC, dD.sum(axis=0)), d_entry


def _backward(
    arguments: Arguments, g: Tokens, d_out: State | None, saved: _Saved, piece: Piece, runs: int
) -> tuple[tuple[Array, ...], State | None]:
    """As ``_backward_pass``, but for A's and D's gradients: those of every sequence, [B, N, E] and [B, E]."""
    c = _Cut(arguments, piece, runs)
    q, back = c.nothing if d_out is None else c.inner(d_out), not piece.reverse
    gs = c.cut(g)
    if c.has_neighbours:

        def pass_by(q: _States, token: tuple[_Token, _OfChannels]) -> tuple[_States, None]:
            (_, dt, _, C), g = c.inner_tokens(token[0]), token[1].astype(c.dtype)
            return jnp.exp(dt[:, None] * c.A) * (q + C[:, :, None] * g[:, None]), None

        own, _ = lax.scan(pass_by, c.no_states, (c.one_by_one(c.tokens), c.one_by_one(gs)), reverse=back)
        q = c.entering(own, q, reverse=back)

    def chunk(sums: _Sums, of_chunk: tuple[_Token, Float[Array, "L R E"], _States]) -> tuple[_Sums, _Token]:
        tokens, g, h = of_chunk
        tokens, g = c.inner_tokens(tokens), g.astype(c.dtype)

        def again(h: _States, token: _Token) -> tuple[_States, _States]:
            aged, h = c.advance(h, token)
            return h, aged

        def step(sums: _Sums, of_token: tuple[_Token, _OfChannels, _States]) -> tuple[_Sums, _Token]:
            return _gradients(c.A, c.D, sums, *of_token)

        _, aged = lax.scan(again, h, tokens, reverse=piece.reverse)
        sums, gradients = lax.scan(step, sums, (tokens, g, aged), reverse=back)
        return sums, gradients.cast_like(c.tokens)

    start = _Sums(q, c.no_states, jnp.zeros_like(q[:, 0]))
    states = saved.transpose(1, 2, 0, 3, 4).reshape(c.chunks, -1, *c.A.shape)
    sums, gradients = lax.scan(chunk, start, (c.tokens, gs, states), reverse=back)
    dx, d_dt, dB, dC = map(c.join, gradients)
    d_entry = None if d_out is None else c.outer(sums.q, last=piece.reverse)
    dA, dD = (x.reshape(runs, c.batch, *x.shape[1:]).sum(axis=0) for x in (sums.A, sums.D))
    return (dx, d_dt, dA, dB, dC, dD), d_entry


class _Token(NamedTuple):
    """Of the arguments what belongs to tokens; or gradients of it."""

    x: Float[Array, "*L R E"]
    dt: Float[Array, "*L R E"]
    B: Float[Array, "*L R N"]
    C: Float[Array, "*L R N"]

    def cast_like(self, other: "_Token") -> "_Token":
        return _Token(*(x.astype(y.dtype) for x, y in zip(self, other, strict=True)))


class _Sums(NamedTuple):
    """What goes from token to token in the backward pass."""

    q: Float[Array, "R N E"]
    A: Float[Array, "R N E"]  # the gradient of A, so far
    D: Float[Array, "R E"]


class _Cut:
    """Sequences in runs, and these in chunks: tokens lie as [chunks, L, R, ...], R counting the runs of all."""

    def __init__(self, arguments: Arguments, piece: Piece, runs: int) -> None:
        x, dt, A, B, C, D = arguments
        self.piece, self.runs, self.dtype = piece, runs, arguments.inner_dtype
        self.batch, self.T, _ = x.shape
        self.length = min(CHUNK, self.T)
        self.chunks = -(-self.T // (self.length * runs))  # of a run
        self.A, self.D = A.astype(self.dtype).T, D.astype(self.dtype)
        self.tokens = _Token(*map(self.cut, (x, dt, B, C)))
        self.has_neighbours = runs > 1 or piece.axis_name is not None  # whose states enter, or don't

    def cut(self, x: Float[Array, "B T X"]) -> Float[Array, "chunks L R X"]:
        """Filled up behind the end: with dt = 0, x = 0 tokens do nothing."""
        padded = self.runs * self.chunks * self.length
        x = jnp.pad(x, ((0, 0), (0, padded - self.T), (0, 0)))
        x = x.reshape(self.batch, self.runs, self.chunks, self.length, x.shape[2])
        return x.transpose(2, 3, 1, 0, 4).reshape(self.chunks, self.length, -1, x.shape[4])

    def join(self, x: Float[Array, "chunks L R X"]) -> Float[Array, "B T X"]:
        x = x.reshape(self.chunks, self.length, self.runs, self.batch, x.shape[3])
        return x.transpose(3, 2, 0, 1, 4).reshape(self.batch, -1, x.shape[4])[:, : self.T]

    @staticmethod
    def one_by_one(tokens: _Tree) -> "_Tree":
        """[chunks, L, ...] -> [tokens, ...]."""
        joined: _Tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tokens)
        return joined

    def inner_tokens(self, tokens: _Token) -> _Token:
        return _Token(*(x.astype(self.dtype) for x in tokens))

    def inner(self, state: State) -> Float[Array, "B N E"]:
        return state.astype(self.dtype).swapaxes(1, 2)

    def outer(self, states: _States, last: bool) -> State:
        """Of the last run of each sequence, or of the first one."""
        return states.reshape(self.runs, self.batch, *self.A.shape)[-1 if last else 0].swapaxes(1, 2)

    @property
    def nothing(self) -> Float[Array, "B N E"]:
        return jnp.zeros_like(self.A, shape=(self.batch, *self.A.shape))

    @property
    def no_states(self) -> _States:
        return jnp.zeros_like(self.A, shape=(self.runs * self.batch, *self.A.shape))

    def advance(self, h: _States, token: _Token) -> tuple[_States, _States]:
        """The state before a token as it has aged, and the state behind the token."""
        x, dt, B, _ = token
        aged = jnp.exp(dt[:, None] * self.A) * h
        return aged, aged + (dt * x)[:, None] * B[:, :, None]

    def entering(self, own: _States, entry: Float[Array, "B N E"], *, reverse: bool) -> _States:
        """What enters each run, from what each leaves behind it alone and from what enters the piece."""
        own = own.reshape(self.runs, self.batch, *self.A.shape)
        dt = self.tokens.dt.astype(self.dtype)
        ages = dt.reshape(-1, *own.shape[:2], own.shape[3]).sum(axis=0)
        if self.piece.axis_name is not None:
            _, alone = carry(own, ages, entry, self.A, reverse=reverse)  # nothing enters from elsewhere
            entry = from_other_devices(alone, ages.sum(axis=0), self.A, self.piece.axis_name, reverse=reverse)
        states, _ = carry(own, ages, entry, self.A, reverse=reverse)
        return states.reshape(-1, *self.A.shape)


def _gradients(
    A: Float[Array, "N E"], D: Float[Array, "E"], sums: _Sums, token: _Token, g: _OfChannels, aged: _States
) -> tuple[_Sums, _Token]:
    """The equations of ``piece``; ``aged`` is ``a_t h_{t-1}``."""
    x, dt, B, C = token
    left = sums.q + C[:, :, None] * g[:, None]
    h = aged + (dt * x)[:, None] * B[:, :, None]
    # The barrier keeps XLA from computing both again for every sum. Over the few N, a sum that is written out is one
    # loop over the channels; over the channels, a product is several times as fast as a sum.
    left, h = lax.optimization_barrier((left, h))
    dC = jnp.einsum("rne,re->rn", h, g, precision="highest")
    dB = jnp.einsum("rne,re->rn", left, dt * x, precision="highest")
    states = range(A.shape[0])
    u = sum(left[:, n] * B[:, n, None] for n in states)
    w = sum(left[:, n] * aged[:, n] * A[n] for n in states)
    q = jnp.exp(dt[:, None] * A) * left
    dA = sums.A + left * aged * dt[:, None]
    return _Sums(q, dA, sums.D + g * x), _Token(dt * u + D * g, x * u + w, dB, dC)
