"""Decays too strong for chunks: when that is so, and how another computation takes over."""

import jax
import jax.numpy as jnp
from jax import lax

SAFE_EXPONENT = 40.0  # exp(+-40) squared still fits in float32
CHANNEL_GROUP = 16
SMALL = 2**20  # elements: no need to save memory


def fall_back(result, otherwise, decay, length: int):
    """``result``, got from chunks of ``length``, or ``otherwise()`` where the decay was too strong for them.

    A loop of no or one turn, not a conditional: under vmap it still skips what no element needs.
    """
    is_safe = jnp.max(jnp.abs(decay)).astype(jnp.float32) * length <= SAFE_EXPONENT
    return lax.while_loop(lambda x: ~x[0], lambda x: (jnp.ones_like(x[0]), otherwise()), (is_safe, result))[1]


def by_channels(f, arrays):
    """``f`` over a few channels (the last axis) at a time: a state per token is much memory, and channels don't mix."""
    largest = jax.tree.leaves(arrays)[0]
    channels = largest.shape[-1]
    if largest.size <= SMALL:
        return f(arrays)
    group = max(size for size in range(1, min(channels, CHANNEL_GROUP) + 1) if channels % size == 0)

    def one(start):
        return f(jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, group, axis=-1), arrays))

    outputs = lax.map(one, jnp.arange(0, channels, group))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], channels), outputs)
