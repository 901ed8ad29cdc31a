"""What the GPU kernels of Bi-WKV have in common, in Pallas Mosaic GPU.

Tokens come as [rows, L, C], a row being a chunk of a sequence, states as [rows, C]. A warpgroup of 128 threads works on
``ROWS`` chunks and ``LANES`` channels, a thread on one channel of one chunk, and goes through the chunk's tokens in
tiles of ``tile`` tokens that it keeps in registers: ``piece.TILE``, or 1 where a chunk is one token. The states at the
borders of the tiles wait in shared memory, so that a sweep in one direction can meet a sweep in the other without
holding the chunk.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.bi_wkv.state import EMPTY, State
from pallas_kernels.mosaic_gpu import Index, Ref, gpu_kernel, load_registers
from pallas_kernels.typing import Array, Float

ROWS, LANES = 2, 64
CARRY_LANES, CARRY_TILE = ROWS * LANES, 8
TOKEN_LAYOUT = plgpu.Layout.WG_STRIDED(shape=(ROWS, LANES), vec_size=1)
CARRY_LAYOUT = plgpu.Layout.WG_STRIDED(shape=(CARRY_LANES,), vec_size=1)
Tokens = Float[Array, "rows L C"]
OfRows = Float[Array, "rows C"]
Registers = Float[Array, "rows lanes"]  # ROWS and LANES
Pair = tuple[Registers, Registers]  # sums (a, b) of ``State`` or (q, s) of the gradient, without an exponent
Tile = tuple[list[Registers], list[Registers]]  # e^(k - exponent) and v of its tokens


class Table(NamedTuple):
    r: OfRows  # exp(-decay), the same in every row
    own: OfRows  # exp(bonus)


class Block:
    """Where this warpgroup works."""

    def __init__(self, tokens_ref: Ref, tile: int) -> None:
        self.length, self.tile = tokens_ref.shape[1], tile
        # One axis: a grid's second and third axis end at 65,535 blocks.
        block, by_channel = lax.axis_index("block"), tokens_ref.shape[2] // LANES
        self.cs = pl.ds(lax.rem(block, by_channel) * LANES, LANES)
        self.rows = pl.ds(lax.div(block, by_channel) * ROWS, ROWS)

    def channels(self, ref: Ref) -> Registers:
        """A [ROWS, C] table, the same in every row."""
        return load_registers(ref.at[:, self.cs], TOKEN_LAYOUT)

    def state(self, ref: Ref) -> Registers:
        return load_registers(ref.at[self.rows, self.cs], TOKEN_LAYOUT)

    def token(self, ref: Ref, t: Index) -> Registers:
        return load_registers(ref.at[self.rows, t, self.cs], TOKEN_LAYOUT).astype(jnp.float32)

    def entering(self, k_ref: Ref, state_refs: Sequence[Ref]) -> tuple[Registers, State, State]:
        """The largest k of each chunk and the states that enter it; or no such states, where none are given."""
        if state_refs:
            m, *states = map(self.state, state_refs)
            return m, State(*states[:3]), State(*states[3:])

        def largest(i: Index, m: Registers) -> Registers:
            return reduce(jnp.maximum, [self.token(k_ref, i * self.tile + p) for p in range(self.tile)], m)

        empty, zero = full(EMPTY), full(0.0)
        nothing = State(empty, zero, zero)
        return lax.fori_loop(0, self.length // self.tile, largest, empty), nothing, nothing

    def store(self, ref: Ref, x: Registers) -> None:
        ref[self.rows, self.cs] = x

    def store_token(self, ref: Ref, t: Index, x: Registers) -> None:
        ref[self.rows, t, self.cs] = x.astype(ref.dtype)


def full(x: float) -> Registers:
    filled: Array = plgpu.layout_cast(jnp.full((ROWS, LANES), x, jnp.float32), TOKEN_LAYOUT)
    return filled


def advance(state: Pair, r: Registers, a: Registers, b: Registers) -> Pair:
    return state[0] * r + a, state[1] * r + b


def times(state: Pair, scale: Registers) -> Pair:
    return state[0] * scale, state[1] * scale


def at_exponent(state: State, ref: Registers) -> Pair:
    return times((state.a, state.b), jnp.exp(state.m - ref))


def sigmoid(x: Registers) -> Registers:
    return 1 / (1 + jnp.exp(-x))


def tile_rows(at: Block, k_ref: Ref, v_ref: Ref, ref: Registers, i: Index) -> Tile:
    """e^(k - ref) and v of the tokens of tile i."""
    es = [jnp.exp(at.token(k_ref, i * at.tile + p) - ref) for p in range(at.tile)]
    return es, [at.token(v_ref, i * at.tile + p) for p in range(at.tile)]


def backward_rows(es: Sequence[Registers], vs: Sequence[Registers], r: Registers, g: Pair) -> tuple[list[Pair], Pair]:
    """The backward sums at every token of a tile, and before it, from those behind it."""
    rows = []
    for e, v in zip(reversed(es), reversed(vs), strict=True):
        rows.append(g)
        g = advance(g, r, e * v, e)
    return rows[::-1], g


def park(parked: Ref, slot: int, i: Index, state: Pair) -> None:
    parked[slot, i], parked[slot + 1, i] = state


def unpark(parked: Ref, slot: int, i: Index) -> Pair:
    a, b = (load_registers(parked.at[slot + j, i], TOKEN_LAYOUT) for j in range(2))
    return a, b


def park_backward(parked: Ref, rows: Callable[[Index], Tile], r: Registers, g: Pair, at: Block) -> None:
    """The backward sums behind every tile into slots 0 and 1."""
    tiles = at.length // at.tile

    def step(j: Index, g: Pair) -> Pair:
        i = tiles - 1 - j
        park(parked, 0, i, g)
        return backward_rows(*rows(i), r, g)[1]

    lax.fori_loop(0, tiles, step, g)


def nothing(count: int) -> list[Pair]:
    """Backward sums of so many tokens that see nothing behind them."""
    return [(full(0.0), full(0.0))] * count


def flat(states: Any) -> tuple[OfRows, ...]:
    return tuple(jax.tree.leaves(states))


def state_shapes(k: Tokens, count: int) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((k.shape[0], k.shape[2]), jnp.float32)] * count


def launch(
    kernel: Callable[..., None],
    name: str,
    shape: tuple[int, ...],
    out: list[jax.ShapeDtypeStruct],
    interpret: Any,
    tile: int,
    parked: int = 0,
) -> Callable[..., Sequence[Array]]:
    """``kernel`` over all rows and channels, with room for so many arrays of tile states."""
    rows, length, channels = shape
    kernel.__name__ = name
    scratch = [plgpu.SMEM((parked, length // tile, ROWS, LANES), jnp.float32)] if parked else ()
    grid = dict(grid=(channels // LANES * (rows // ROWS),), grid_names=("block",))
    return gpu_kernel(kernel, out, scratch, grid, interpret)
