"""A piece of a sequence, differentiable: what ``scan`` and ``mosaic`` share.

Each of the two is a forward and a backward pass over chunks of tokens. With ``h`` a state and ``a_t = exp(dt_t A)``:

    h_t = a_t h_{t-1} + dt_t x_t B_t                    y_t = sum_n C_t h_t + D x_t

and backward, from g = dL/dy, with ``q_t`` the gradient with respect to ``h_t`` without the share of ``y_t``:

    l_t = q_t + C_t g_t                                 q_{t-1} = a_t l_t
    dC_t = sum_e g_t h_t                                dB_t = sum_e l_t dt_t x_t
    u_t = sum_n l_t B_t,  w_t = l_t a_t h_{t-1}         dx_t = dt_t u_t + D g_t
    ddt_t = x_t u_t + sum_n A w_t                       dA = sum_t dt_t w_t,  dD = sum_t g_t x_t

``a_t h_{t-1}`` is computed as it stands, and not as ``h_t - dt_t x_t B_t``: where ``a_t`` is tiny, only rounding errors
would be left of that difference.
"""

from functools import partial, reduce
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.typing import Array, Float

KERNEL_STATES = 16  # N that the GPU kernels take at once: a thread has so many states in registers


class Piece(NamedTuple):
    """What a piece of a sequence is, beside its tokens, and who computes it."""

    implementation: str = "scan"  # or "mosaic"
    reverse: bool = False  # from the last token to the first
    axis_name: str | None = None  # the axis of devices that the sequence is spread over, under shard_map
    interpret: Any = None  # parameters of Pallas's interpret mode for Mosaic GPU, to run "mosaic" without a GPU


Tokens = Float[Array, "B T E"]
State = Float[Array, "B E N"]


class Arguments(NamedTuple):
    """Of the op, in any dtypes; and their gradients."""

    x: Float[Array, "B T E"]
    dt: Float[Array, "B T E"]
    A: Float[Array, "E N"]
    B: Float[Array, "B T N"]
    C: Float[Array, "B T N"]
    D: Float[Array, "E"]

    @property
    def inner_dtype(self) -> jnp.dtype:
        """What is computed in."""
        return jnp.dtype(reduce(jnp.promote_types, (x.dtype for x in self), jnp.float32))

    def cast_like(self, others: "Arguments") -> "Arguments":
        return Arguments(*(x.astype(y.dtype) for x, y in zip(self, others, strict=True)))


Result = tuple[Tokens, State | None]


def selective_scan_piece(arguments: Arguments, entry: State | None, piece: Piece) -> Result:
    """The selective scan over a piece of a sequence, given the state of what lies before it.

    Args:
        entry: None: the piece, with those of the other devices if there are any, is the whole sequence.

    Returns:
        y as for ``selective_scan``; the state behind the piece (None for a whole).
    """
    x, dt, A, B, C, D = arguments
    if piece.implementation != "mosaic" or A.shape[1] <= KERNEL_STATES:
        return _piece(arguments, entry, piece)
    y = jnp.zeros_like(x, dtype=jnp.float32)
    states: list[Array] = []
    for first in range(0, A.shape[1], KERNEL_STATES):  # states don't mix: y is a sum over them
        some = slice(first, first + KERNEL_STATES)
        skip = D if first == 0 else jnp.zeros_like(D)
        part = Arguments(x.astype(jnp.float32), dt, A[:, some], B[..., some], C[..., some], skip)
        of_part, state = _piece(part, None if entry is None else entry[..., some], piece)
        y, states = y + of_part, states if state is None else [*states, state]
    return y.astype(x.dtype), None if entry is None else jnp.concatenate(states, axis=2)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _piece(arguments: Arguments, entry: State | None, piece: Piece) -> Result:
    return _forward_rule(arguments, entry, piece)[0]


_Residuals = tuple[Arguments, State | None, Any]  # the last is what the implementation saves for itself


def _forward_rule(arguments: Arguments, entry: State | None, piece: Piece) -> tuple[Result, _Residuals]:
    y, out, saved = _passes(piece).forward_pass(arguments, entry, piece)
    return (y, out), (arguments, entry, saved)


def _backward_rule(piece: Piece, residuals: _Residuals, cotangents: Result) -> tuple[Arguments, State | None]:
    arguments, entry, saved = residuals
    gradients, d_entry = _passes(piece).backward_pass(arguments, *cotangents, saved, piece)
    return gradients.cast_like(arguments), None if entry is None else d_entry.astype(entry.dtype)


_piece.defvjp(_forward_rule, _backward_rule)


def _passes(piece: Piece) -> ModuleType:
    """The module with both passes; imported by name, for not every jax has the GPU half of Pallas."""
    return import_module(f"pallas_kernels.selective_scan.{piece.implementation}")
