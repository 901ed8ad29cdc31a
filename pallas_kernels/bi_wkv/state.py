"""What is known of a run of tokens: a sum of exponentials, kept with a reference exponent so that it can't overflow.

A state ``(m, a, b)`` stands for ``exp(m) * (a, b)``, where ``a`` sums ``weight * v`` and ``b`` sums ``weight``. The
empty state is ``(-1e30, 0, 0)``: finite, so that a difference of two of them is 0 and never NaN.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.typing import Array, Float

EMPTY = -1e30
LONGEST_SCAN = 64  # steps; longer carries go in two levels


class State(NamedTuple):
    """``exp(m) * (a, b)``, each [B, C]: the tokens on one side of a boundary, as seen from it.

    The forward state at t is ``sum_{i<t} exp(k_i - (t-1-i) * decay) * (v_i, 1)``, the backward state at t the mirror
    image, ``sum_{i>t} exp(k_i - (i-t-1) * decay) * (v_i, 1)``.
    """

    m: Float[Array, "*B C"]
    a: Float[Array, "*B C"]
    b: Float[Array, "*B C"]


def empty_state(batch: int, channels: int, dtype: jax.typing.DTypeLike = jnp.float32) -> State:
    """The state of no tokens at all: three arrays [batch, channels]."""
    zero = jnp.zeros((batch, channels), dtype)
    return State(zero + EMPTY, zero, zero)


def nothing_like(state: State) -> State:
    """The empty state in the shape of ``state``."""
    return State(jnp.full_like(state.m, EMPTY), jnp.zeros_like(state.a), jnp.zeros_like(state.b))


def merge(far: State, near: State, decay: Float[Array, "C"], near_length: int | Float[Array, "n 1"]) -> State:
    """The state of two neighbouring runs of tokens, ``near`` (of ``near_length`` tokens) being next to the boundary.

    Associative; for the forward state ``far`` is the earlier run, for the backward state the later one.
    """
    far_m = far.m - near_length * decay
    m = jnp.maximum(far_m, near.m)
    far_scale, near_scale = jnp.exp(far_m - m), jnp.exp(near.m - m)
    return State(m, far.a * far_scale + near.a * near_scale, far.b * far_scale + near.b * near_scale)


def carry(
    runs: State, entry: State, decay: Float[Array, "C"], length: int, *, reverse: bool, filler: int = 0
) -> tuple[State, State]:
    """What enters each of n runs of ``length`` tokens, from their own sums and from what enters the first.

    Args:
        runs: arrays [..., n, C], the state each run would leave behind it alone.
        entry: arrays [..., C], what comes before the first run (``reverse``: behind the last).
        decay: [C].
        filler: how many tokens at the end of the last run are none, and must not age what passes over them.

    Returns:
        the entry states [..., n, C] and the state [..., C] beyond the last run (``reverse``: before the first).
    """
    n = runs.m.shape[-2]
    if reverse:
        entry = entry._replace(m=entry.m + filler * decay)
    if n == 1:
        states = jax.tree.map(lambda x: x[..., None, :], entry)
        out = merge(entry, jax.tree.map(lambda x: x[..., 0, :], runs), decay, length)
    elif n <= LONGEST_SCAN:
        states, out = _carry_one_by_one(runs, entry, length * decay, reverse)
    else:
        group = math.isqrt(n - 1) + 1
        grouped = State(*(_split(x, group, fill) for x, fill in zip(runs, (EMPTY, 0.0, 0.0), strict=True)))
        nothing = nothing_like(jax.tree.map(lambda x: x[..., 0, :], grouped))
        inside, totals = _carry_one_by_one(grouped, nothing, length * decay, reverse)
        missing = -n % group * length
        outside, out = carry(totals, entry, decay, group * length, reverse=reverse, filler=missing)
        tokens_between = jnp.arange(group, dtype=decay.dtype)[:, None] * length
        tokens_between = tokens_between[::-1] if reverse else tokens_between
        states = merge(jax.tree.map(lambda x: x[..., None, :], outside), inside, decay, tokens_between)
        states = jax.tree.map(lambda x: x.reshape(*x.shape[:-3], -1, x.shape[-1])[..., :n, :], states)
    if not reverse:
        out = out._replace(m=out.m + filler * decay)
    return states, out


def _carry_one_by_one(runs: State, entry: State, decay: Float[Array, "C"], reverse: bool) -> tuple[State, State]:
    """``carry`` as a scan, with the decay over a whole run."""
    by_run = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), runs)
    start = (entry, jnp.zeros_like(entry.m))
    end, states = lax.scan(lambda c, run: (pass_run(c, run, decay), aged(c, decay)), start, by_run, reverse=reverse)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2), states), aged(end, decay)


def pass_run(
    carried: tuple[State, Float[Array, "*B C"]], run: State, decay: Float[Array, "C"]
) -> tuple[State, Float[Array, "*B C"]]:
    """A state carried past one more run of tokens.

    It keeps the exponent of the run that it came from and the number of runs since: subtracting the decay run by run
    would add up a rounding error of the size of the exponent each time.
    """
    state, age = carried
    far_m = aged((state, age + 1), decay).m
    is_far = far_m >= run.m
    far_scale = jnp.exp(jnp.minimum(far_m - run.m, 0.0))
    run_scale = jnp.exp(jnp.minimum(run.m - far_m, 0.0))
    m = jnp.where(is_far, state.m, run.m)
    merged = State(m, state.a * far_scale + run.a * run_scale, state.b * far_scale + run.b * run_scale)
    return merged, jnp.where(is_far, age + 1, 0.0)


def aged(carried: tuple[State, Float[Array, "*B C"]], decay: Float[Array, "C"]) -> State:
    """A carried state as it is now."""
    state, age = carried
    return state._replace(m=state.m - age * decay)


def _split(x: Float[Array, "*B n C"], group: int, fill: float) -> Float[Array, "*B groups {group} C"]:
    """[..., n, C] -> [..., n / group, group, C], filled up behind the end."""
    *batch, n, channels = x.shape
    filler = -n % group
    x = jnp.pad(x, (*((0, 0),) * len(batch), (0, filler), (0, 0)), constant_values=fill)
    return x.reshape(*batch, (n + filler) // group, group, channels)
