"""What is known of a run of tokens: a sum of exponentials, kept with a reference exponent so that it can't overflow.

A state ``(m, a, b)`` stands for ``exp(m) * (a, b)``, where ``a`` sums ``weight * v`` and ``b`` sums ``weight``. The
empty state is ``(-1e30, 0, 0)``: finite, so that a difference of two of them is 0 and never NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

EMPTY = -1e30


class State(NamedTuple):
    """``exp(m) * (a, b)``, each [B, C]: the tokens on one side of a boundary, as seen from it.

    The forward state at t is ``sum_{i<t} exp(k_i - (t-1-i) * decay) * (v_i, 1)``, the backward state at t the mirror
    image, ``sum_{i>t} exp(k_i - (i-t-1) * decay) * (v_i, 1)``.
    """

    m: jax.Array
    a: jax.Array
    b: jax.Array


def empty_state(batch: int, channels: int, dtype=jnp.float32) -> State:
    """The state of no tokens at all: three arrays [batch, channels]."""
    zero = jnp.zeros((batch, channels), dtype)
    return State(zero + EMPTY, zero, zero)


def merge(far: State, near: State, decay: jax.Array, near_length: int) -> State:
    """The state of two neighbouring runs of tokens, ``near`` (of ``near_length`` tokens) being next to the boundary.

    Associative; for the forward state ``far`` is the earlier run, for the backward state the later one.
    """
    far_m = far.m - near_length * decay
    m = jnp.maximum(far_m, near.m)
    far_scale, near_scale = jnp.exp(far_m - m), jnp.exp(near.m - m)
    return State(m, far.a * far_scale + near.a * near_scale, far.b * far_scale + near.b * near_scale)
