"""A piece of a sequence, differentiable: what ``scan`` and ``mosaic`` share.

Each of the two is a forward and a backward pass over chunks. How long a chunk may be depends on the decay: one
reference exponent serves a whole chunk, which is safe while ``L * |decay|`` stays below ``SAFE_EXPONENT``. So L follows
from the bound of the decay that the caller vouches for; without one a chunk is a single token.
"""

from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.bi_wkv.state import EMPTY, State
from pallas_kernels.typing import Array, Float

SAFE_EXPONENT = 40.0  # exp(+-40) squared still fits in float32
LONGEST_CHUNK = 64  # tokens, of any implementation
TILE = 8  # tokens that the kernels fill chunks up to


class Piece(NamedTuple):
    """What a piece of a sequence is, beside its tokens, and who computes it."""

    implementation: str = "scan"  # or "mosaic"
    max_decay: float | None = None  # |decay| is at most this; None: nobody knows
    causal: bool = False  # tokens behind a token don't count
    axis_name: str | None = None  # the axis of devices that the sequence is spread over, under shard_map
    interpret: Any = None  # parameters of Pallas's interpret mode for Mosaic GPU, to run "mosaic" without a GPU

    @property
    def longest_chunk(self) -> float:
        """How many tokens a chunk may have."""
        return 1 if self.max_decay is None else SAFE_EXPONENT / max(self.max_decay, 1e-30)


class Carried(NamedTuple):
    """States on their way through a piece, in one direction."""

    states: State  # what enters each chunk, [rows, C]
    entry: State  # what entered the piece, [B, C]
    out: State  # what left it at the other end


Ends = tuple[State, State]  # on the left and on the right of a piece
Tokens = Float[Array, "B T C"]
Channels = Float[Array, "C"]
Arguments = tuple[Tokens, Tokens, Channels, Channels, Tokens | None, Ends | None]  # of ``bi_wkv_piece``
Result = tuple[Tokens, Ends | None]


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def bi_wkv_piece(
    k: Tokens,
    v: Tokens,
    decay: Channels,
    bonus: Channels,
    receptance: Tokens | None,
    entry: Ends | None,
    piece: Piece,
) -> Result:
    """Bi-WKV over a piece of a sequence, between the states of what lies before it and behind it.

    Args:
        entry: forward and backward state, [B, C]; None: k and v (with those of the other devices) are the whole.

    Returns:
        y as for ``bi_wkv``; the forward state behind the piece and the backward state before it (None for a whole).
    """
    return _forward_rule(k, v, decay, bonus, receptance, entry, piece)[0]


_Residuals = tuple[Arguments, Ends | None, Any]  # the last is what the implementation saves for itself


def _forward_rule(
    k: Tokens,
    v: Tokens,
    decay: Channels,
    bonus: Channels,
    receptance: Tokens | None,
    entry: Ends | None,
    piece: Piece,
) -> tuple[Result, _Residuals]:
    arguments = (k, v, decay, bonus, receptance, entry)
    y, out, saved = _passes(piece).forward_pass(arguments, piece)
    return (y, out), (arguments, out, saved)


def _backward_rule(piece: Piece, residuals: _Residuals, cotangents: Result) -> Arguments:
    arguments, out, saved = residuals
    _, _, decay, bonus, _, entry = arguments
    g, d_out = cotangents
    # What leaves on the right is carried to the left, and the other way round.
    ends = d_entry = None
    if entry is not None and out is not None and d_out is not None:
        d_right, d_left = map(_state_of_cotangent, d_out, out)
        ends = d_left, d_right
    gradients = _passes(piece).backward_pass(arguments, g, ends, saved, piece)
    dk, dv, d_receptance, d_decay, d_bonus, p_out, r_out = gradients
    if entry is not None:
        d_entry = _cotangent_of_state(r_out, entry[0]), _cotangent_of_state(p_out, entry[1])
    return dk, dv, d_decay.astype(decay.dtype), d_bonus.astype(bonus.dtype), d_receptance, d_entry


bi_wkv_piece.defvjp(_forward_rule, _backward_rule)


def _passes(piece: Piece) -> ModuleType:
    """The module with both passes; imported by name, for not every jax has the GPU half of Pallas."""
    return import_module(f"pallas_kernels.bi_wkv.{piece.implementation}")


def overlap(state: State, cotangent: State, decay: int | Channels) -> Channels:
    """The loss's derivative with respect to the logarithm of a ``state`` that passes over ``decay``, [C]."""
    scale = jnp.exp(state.m + cotangent.m - decay)
    return jnp.sum(scale * (state.a * cotangent.a - state.b * cotangent.b), axis=0)


def unspent_decay(forward: Carried, backward: Carried, p: Carried, r: Carried) -> Channels:
    """What one token less at the end of the piece changes in the gradient with respect to decay, [C].

    Tokens that fill up the last chunk are none, and what passes over them must not age.
    """
    return overlap(forward.out, r.entry, 0) + overlap(backward.entry, p.out, 0)


def _state_of_cotangent(cotangent: State, state: State) -> State:
    """The gradient with respect to a sum ``exp(m) * (a, b)``, as a state of (q, s) at exponent -m."""
    used = ((cotangent.a != 0) | (cotangent.b != 0)) & (state.m > EMPTY / 2)
    return State(jnp.where(used, -state.m, EMPTY), cotangent.a, -cotangent.b)


def _cotangent_of_state(out: State, state: State) -> State:
    """The gradient with respect to (m, a, b) of the entry ``state``, from the sums (q, s) that leave beside it."""
    scale = jnp.exp(state.m + out.m)
    da, db = scale * out.a, -scale * out.b
    return State(state.a * da + state.b * db, da, db)
