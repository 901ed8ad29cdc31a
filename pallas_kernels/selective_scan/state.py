"""What is known of a run of tokens: the state it leaves behind it alone, and the sum of its steps.

Over a run of tokens a state ages by ``exp(A S)``, with S the sum of their dt, so runs follow each other as

    h_out = exp(A S) h_in + h_own

whichever way the tokens are gone through; a gradient ages in the same way, and goes the other way. Arrays are
[..., N, E] here: channels lie next to each other in memory.
"""

import jax.numpy as jnp
from jax import lax

from pallas_kernels.typing import Array, Float


def carry(
    own: Float[Array, "n R N E"],
    ages: Float[Array, "n R E"],
    entry: Float[Array, "R N E"],
    A: Float[Array, "N E"],
    *,
    reverse: bool,
) -> tuple[Float[Array, "n R N E"], Float[Array, "R N E"]]:
    """What enters each of n runs, and what leaves the last one (``reverse``: the first one).

    Args:
        own: the state that each run would leave behind it alone.
        ages: the sum of dt of each run.
        entry: what enters the first run (``reverse``: the last one).
    """

    def step(
        h: Float[Array, "R N E"], run: tuple[Float[Array, "R N E"], Float[Array, "R E"]]
    ) -> tuple[Float[Array, "R N E"], Float[Array, "R N E"]]:
        own, age = run
        return jnp.exp(age[:, None] * A) * h + own, h

    out, entering = lax.scan(step, entry, (own, ages), reverse=reverse)
    return entering, out


def from_other_devices(
    own: Float[Array, "B N E"], age: Float[Array, "B E"], A: Float[Array, "N E"], axis_name: str, *, reverse: bool
) -> Float[Array, "B N E"]:
    """Under ``shard_map``: what enters this device's piece, from what the piece of each device leaves behind it alone.

    One all-gather of N + 1 numbers per device, sequence and channel.
    """
    of_all = lax.all_gather(jnp.concatenate([own, age[:, None]], axis=1), axis_name)
    nothing = jnp.zeros_like(own)
    entering, _ = carry(of_all[:, :, :-1], of_all[:, :, -1], nothing, A, reverse=reverse)
    here: Array = lax.dynamic_index_in_dim(entering, lax.axis_index(axis_name), keepdims=False)
    return here
