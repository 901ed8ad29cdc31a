"""Bi-WKV on NVIDIA GPUs from Ampere on: three kernels forward, three backward, each a pass over memory.

Chunk sums, carry, outputs; and the same again for the gradient, with (q, s) in the place of (v, 1) (see ``scan``). Any
shape is served: tokens are filled up to whole chunks, channels to whole warpgroups. Where the decay is too strong for
chunks of 64 tokens the scan takes over.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.bi_wkv import mosaic_kernels as kernels
from pallas_kernels.bi_wkv.fallback import fall_back
from pallas_kernels.bi_wkv.scan import bi_wkv_scan
from pallas_kernels.bi_wkv.state import EMPTY, State

LONGEST_CHUNK = 64


class Table(NamedTuple):
    r: jax.Array  # exp(-decay), [ROWS, C]
    own: jax.Array  # exp(bonus)


def bi_wkv_mosaic(k, v, decay, bonus, receptance=None, *, interpret=None):
    """Bi-WKV by GPU kernels; arguments and result as for ``bi_wkv``.

    Args:
        interpret: parameters of Pallas's interpret mode for Mosaic GPU, to run without a GPU.
    """
    return _bi_wkv(k, v, decay, bonus, receptance, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _bi_wkv(k, v, decay, bonus, receptance, interpret):
    c = _Cut(k, v, decay, bonus, receptance, interpret)
    m, forward, backward = c.enter()
    y = c.join(kernels.outputs(c.table, c.k, c.v, c.receptance, m, forward, backward, interpret=interpret))
    slow = partial(bi_wkv_scan, k, v, decay, bonus, receptance)
    return fall_back(y, slow, decay, c.length)


def _forward_rule(k, v, decay, bonus, receptance, interpret):
    return _bi_wkv(k, v, decay, bonus, receptance, interpret), (k, v, decay, bonus, receptance)


def _backward_rule(interpret, arguments, g):
    decay, bonus = arguments[2:4]
    c = _Cut(*arguments, interpret)
    m, forward, backward = c.enter()
    rows = c.table, c.k, c.v, c.receptance, c.rows(g, 0.0), m, forward, backward
    pq, ps, rq, rs = kernels.gradient_sums(*rows, interpret=interpret)
    p_runs = State(-jnp.maximum(backward.m, m), pq, ps)
    r_runs = State(-jnp.maximum(forward.m, m), rq, rs)
    p, r = c.carry(p_runs, r_runs)
    dk, dv, d_decay, d_bonus, *d_receptance = kernels.gradients(*rows, p, r, interpret=interpret)
    d_decay, d_bonus = (c.by_sequence(x).sum(axis=1).sum(axis=0)[: decay.shape[0]] for x in (d_decay, d_bonus))
    fast = (c.join(dk), c.join(dv), d_decay.astype(decay.dtype), d_bonus.astype(bonus.dtype))
    fast = (*fast, c.join(d_receptance[0]) if d_receptance else None)

    def slow():
        return jax.vjp(bi_wkv_scan, *arguments)[1](g)

    return fall_back(fast, slow, decay, c.length)


_bi_wkv.defvjp(_forward_rule, _backward_rule)


class _Cut:
    """A sequence in chunks, filled up to what the kernels take."""

    def __init__(self, k, v, decay, bonus, receptance, interpret):
        self.shape, self.interpret = k.shape, interpret
        self.length = min(LONGEST_CHUNK, -(-k.shape[1] // kernels.TILE) * kernels.TILE)
        self.chunks = -(-k.shape[1] // self.length)
        self.k, self.v = self.rows(k, -jnp.inf), self.rows(v, 0.0)
        self.receptance = None if receptance is None else self.rows(receptance, 0.0)
        self.channels = self.k.shape[2]

        def table(x):
            x = jnp.pad(x.astype(jnp.float32), (0, self.channels - x.shape[0]))
            return jnp.broadcast_to(x, (kernels.ROWS, self.channels))

        decay, bonus = table(decay), table(bonus)
        self.table, self.decay = Table(jnp.exp(-decay), jnp.exp(bonus)), decay[0]

    def rows(self, x, fill):
        """[B, T, C] -> [rows, L, channels], whole chunks, rows and channels."""
        B, T, C = x.shape
        filler = ((0, 0), (0, self.chunks * self.length - T), (0, -C % kernels.LANES))
        x = jnp.pad(x, filler, constant_values=fill)
        x = x.reshape(B * self.chunks, self.length, x.shape[2])
        return jnp.pad(x, ((0, -x.shape[0] % kernels.ROWS), (0, 0), (0, 0)), constant_values=fill)

    def join(self, rows):
        """[rows, L, channels] -> [B, T, C]."""
        B, T, C = self.shape
        return rows[: B * self.chunks].reshape(B, -1, rows.shape[2])[:, :T, :C]

    def by_sequence(self, x):
        """[rows, channels] -> [B, n, channels]."""
        return x[: self.shape[0] * self.chunks].reshape(self.shape[0], self.chunks, x.shape[-1])

    def enter(self) -> tuple[jax.Array, State, State]:
        """The largest k of each chunk, and what enters it."""
        m, fa, fb, ga, gb = kernels.sums(self.table, self.k, self.v, interpret=self.interpret)
        return m, *self.carry(State(m, fa, fb), State(m, ga, gb))

    def carry(self, to_right: State, to_left: State) -> tuple[State, State]:
        """What enters each chunk from both sides, from what each adds: both directions in one kernel, side by side."""
        if self.chunks == 1:
            nothing = State(jnp.full_like(to_right.m, EMPTY), *(jnp.zeros_like(to_right.m),) * 2)
            return nothing, nothing
        B, n = self.shape[0], self.chunks
        filler = -n % kernels.CARRY_TILE

        def lanes(right, left, fill):
            both = jnp.stack([self.by_sequence(right), jnp.flip(self.by_sequence(left), axis=1)])  # [2, B, n, C]
            both = jnp.moveaxis(both, 2, 0).reshape(n, -1)
            return jnp.pad(both, ((0, filler), (0, 0)), constant_values=fill)

        runs = State(*map(lanes, to_right, to_left, (EMPTY, 0.0, 0.0)))
        decay = jnp.tile(self.length * self.decay, 2 * B)
        entering = kernels.carry(decay, runs, interpret=self.interpret)

        def unfold(x, side):
            x = x[:n].reshape(n, 2, B, self.channels)[:, side]
            x = jnp.moveaxis(jnp.flip(x, axis=0) if side else x, 0, 1).reshape(B * n, self.channels)
            return jnp.pad(x, ((0, to_right.m.shape[0] - B * n), (0, 0)))

        return State(*(unfold(x, 0) for x in entering)), State(*(unfold(x, 1) for x in entering))
