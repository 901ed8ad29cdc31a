"""What the GPU kernels of the selective scan have in common, in Pallas Mosaic GPU.

A warpgroup of 128 threads works on one chunk of a sequence and on 128 channels, a thread on one channel with all its N
states: sums over states stay within a thread, and B and C, the same in every channel, are read as scalars. It goes
through the chunk's tokens in tiles of ``TILE`` that it reads together.

Channels come as [E / 32, 32], so that 128 of them are an array of ``WIDTH``: ``mosaic_gradients`` adds those up a
quarter at a time. Tokens are [rows, L, E / 32, 32], a row being a chunk, B and C [rows, L, N], states [rows, N, E / 32,
32]. ``A`` comes times log2(e): a power of two costs less than one of e. All of it is float32 but for tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.mosaic_gpu import Index, Ref, gpu_kernel, load_registers
from pallas_kernels.typing import Array, Float

WIDTH = QUARTERS, LANES = 4, 32
CHANNELS = QUARTERS * LANES
TILE = 8  # tokens
GROUP = 4  # states that the gradient's kernel has in registers at a time; N is filled up to a multiple
LAYOUT = plgpu.Layout.WG_STRIDED(shape=WIDTH, vec_size=1)
Tokens = Float[Array, "rows L blocks lanes"]
OfStates = Float[Array, "rows L N"]
States = Float[Array, "rows N blocks lanes"]
OfRows = Float[Array, "rows blocks lanes"]
Registers = Float[Array, "quarters lanes"]  # ``WIDTH``


class Block:
    """Where this warpgroup works."""

    def __init__(self, tokens_ref: Ref, states: int, reverse: bool) -> None:
        self.length, self.states, self.reverse = tokens_ref.shape[1], states, reverse
        self.tiles = self.length // TILE
        # One axis: a grid's second and third axis end at 65,535 blocks.
        block, by_channel = lax.axis_index("block"), tokens_ref.shape[2] // QUARTERS
        self.channel, self.row = lax.rem(block, by_channel), lax.div(block, by_channel)
        self.cs = pl.ds(self.channel * QUARTERS, QUARTERS)

    def tile(self, i: Index) -> list[Index]:
        """The tokens of tile i, in the order in which they are gone through."""
        steps = [i * TILE + p for p in range(TILE)]
        return [self.length - 1 - t for t in steps] if self.reverse else steps

    def load(self, ref: Ref, *index: Index) -> Registers:
        """Of an array whose last two dimensions are channels."""
        return load_registers(ref.at[(*index, self.cs)], LAYOUT).astype(jnp.float32)

    def tokens(self, ref: Ref, ts: Sequence[Index]) -> list[Registers]:
        return [self.load(ref, self.row, t) for t in ts]

    def of_states(self, ref: Ref, *index: Index) -> list[Registers]:
        """Of an array [..., N, channels], every n."""
        return [self.load(ref, *index, n) for n in range(self.states)]

    def entering(self, refs: Sequence[Ref]) -> list[Registers]:
        """The state that enters the chunk: zero, if none is given."""
        return self.of_states(refs[0], self.row) if refs else self.zeros()

    def zeros(self) -> list[Registers]:
        return [full(0.0)] * self.states

    def store(self, ref: Ref, x: Registers, *index: Index) -> None:
        ref[(self.row, *index, self.cs)] = x.astype(ref.dtype)

    def store_states(self, ref: Ref, xs: Sequence[Registers]) -> None:
        for n, x in enumerate(xs):
            self.store(ref, x, n)


def full(x: float) -> Registers:
    filled: Array = plgpu.layout_cast(jnp.full(WIDTH, x, jnp.float32), LAYOUT)
    return filled


def total(xs: Sequence[Registers]) -> Registers:
    return sum(xs[1:], xs[0])


def states_shape(x: Tokens, states: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((x.shape[0], states, *x.shape[2:]), jnp.float32)


def launch(
    kernel: Callable[..., None],
    name: str,
    tokens: Tokens,
    out: list[jax.ShapeDtypeStruct],
    interpret: Any,
    scratch: Sequence[Any] = (),
) -> Callable[..., Sequence[Array]]:
    """``kernel`` over all rows and channels."""
    kernel.__name__ = name
    grid = dict(grid=(tokens.shape[0] * (tokens.shape[2] // QUARTERS),), grid_names=("block",))
    return gpu_kernel(kernel, out, scratch, grid, interpret, barriers=False)
