"""One function over many independent rows, a block of rows at a time."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

CPU_BLOCK = 2**18  # elements of the largest array: about what the second-level cache of a core holds of ten arrays
OTHER_BLOCK = 2**22

Inputs = TypeVar("Inputs")  # arrays, in any structure
Outputs = TypeVar("Outputs")


def by_blocks(f: Callable[[Inputs], Outputs], arrays: Inputs) -> Outputs:
    """``f`` over the rows (the leading axis) of ``arrays``, in blocks of a size that suits the platform.

    Args:
        f: takes blocks of ``arrays`` and returns arrays with those rows.

    Returns:
        what ``f`` returns, for all rows.
    """
    rows = jax.tree.leaves(arrays)[0].shape[0]
    elements = max(x.size for x in jax.tree.leaves(arrays))
    on_cpu, elsewhere = (block_count(rows, elements, limit) for limit in (CPU_BLOCK, OTHER_BLOCK))
    if on_cpu == elsewhere:
        return in_blocks(f, arrays, on_cpu)
    run = {count: partial(in_blocks, f, count=count) for count in (on_cpu, elsewhere)}
    chosen: Outputs = lax.platform_dependent(arrays, cpu=run[on_cpu], default=run[elsewhere])
    return chosen


def in_blocks(f: Callable[[Inputs], Outputs], arrays: Inputs, count: int) -> Outputs:
    """``by_blocks``, with so many blocks."""
    if count == 1:
        return f(arrays)
    rows = jax.tree.leaves(arrays)[0].shape[0]
    size = -(-rows // count)
    outputs = lax.map(f, jax.tree.map(lambda x: _fold(x, count, size), arrays))
    joined: Outputs = jax.tree.map(lambda x: x.reshape(count * size, *x.shape[2:])[:rows], outputs)
    return joined


def block_count(rows: int, elements: int, limit: int) -> int:
    """As many blocks as it takes, or a few more, if then nothing needs filling up.

    Args:
        elements: of the largest array.
        limit: how many of them a block may have.
    """
    count = min(rows, -(-elements // limit))
    return next((c for c in range(count, min(rows, 2 * count) + 1) if rows % c == 0), count)


def _fold(x: Array, count: int, size: int) -> Array:
    filler = count * size - x.shape[0]
    if filler:
        x = jnp.pad(x, ((0, filler), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(count, size, *x.shape[1:])
