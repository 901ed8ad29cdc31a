"""The entries to every implementation.

Arguments are plain arrays here, for ``_check`` says more of a wrong shape than their types would.
"""

import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.piece import LONGEST_CHUNK, SAFE_EXPONENT, TILE, Piece, bi_wkv_piece
from pallas_kernels.bi_wkv.reference import bi_wkv_reference
from pallas_kernels.bi_wkv.state import State, empty_state
from pallas_kernels.implementation import implementation_for, implementation_in_pieces
from pallas_kernels.typing import Array, Float


def bi_wkv(
    k: Array,
    v: Array,
    decay: Array,
    bonus: Array,
    *,
    receptance: Array | None = None,
    causal: bool = False,
    max_decay: float | None = None,
    implementation: str | None = None,
) -> Float[Array, "B T C"]:
    """Bidirectional WKV (Vision-RWKV, arXiv 2403.02308): per channel a weighted mean of ``v`` over the whole sequence.

        weight(t, i) = exp(k_i - (|t - i| - 1) * decay)    for i != t,        weight(t, t) = exp(k_t + bonus)
        y_t          = sum_i weight(t, i) v_i / sum_i weight(t, i)

    Vision-RWKV's own parameters w and u are divided by T: pass ``decay = w / T`` and ``bonus = u / T``.

    Args:
        k, v: [B, T, C], float32, bfloat16 or float16; B, T, C >= 1. ``k = -inf`` leaves a token out.
        decay: [C], per step, of either sign.
        bonus: [C], added to k_t where a token looks at itself. At most 80: exp(bonus) must be a float32.
        receptance: [B, T, C]; when given, the result is ``sigmoid(receptance) * y``.
        causal: the sum goes over i <= t alone.
        max_decay: a bound of ``|decay|`` that the caller vouches for. Up to ``free_decay(T)`` it makes the computation
            as fast as it can be; None serves every decay, several times as slowly. A decay beyond it gives overflows.
        implementation: "mosaic" (Pallas kernels, NVIDIA GPUs from compute capability 8.0 on; with jax before 0.11 only
            9.0), "scan" (plain JAX, every platform) or "reference" (dense, O(T^2)). By default "mosaic" where it can
            run, else "scan".

    Returns:
        [B, T, C] in the dtype of ``v``. Computed in float32; differentiable in every array argument.

    Raises:
        ValueError: a shape, a dtype or the implementation's name is wrong, or that implementation can't run here.
    """
    _check(k, v, decay, bonus, receptance)
    chosen = implementation_for(implementation, k.dtype)
    if chosen == "reference":
        return bi_wkv_reference(k, v, decay, bonus, receptance, causal=causal)
    return bi_wkv_piece(k, v, decay, bonus, receptance, None, Piece(chosen, max_decay, causal=causal))[0]


def bi_wkv_with_states(
    k: Array,
    v: Array,
    decay: Array,
    bonus: Array,
    *,
    receptance: Array | None = None,
    forward: State | None = None,
    backward: State | None = None,
    causal: bool = False,
    max_decay: float | None = None,
    implementation: str | None = None,
) -> tuple[Float[Array, "B T C"], State, State]:
    """``bi_wkv`` over a piece of a sequence, given the states of the tokens before and behind the piece.

    Args:
        k, v, decay, bonus, receptance, max_decay: as for ``bi_wkv``.
        forward: state [B, C] of everything before the piece; None: nothing.
        backward: state [B, C] of everything behind the piece; None: nothing.
        causal: each token sees itself and what lies before it, and nothing behind it.
        implementation: "mosaic", "scan" or None, as for ``bi_wkv``.

    Returns:
        y [B, T, C]; the forward state behind the piece, for the next piece; the backward state before the piece, for
        the previous one (empty when causal). Their ``m`` carries no gradient: ``a`` and ``b`` carry all of it.

    Raises:
        ValueError: as for ``bi_wkv``, or there is a backward state although ``causal``.
    """
    _check(k, v, decay, bonus, receptance)
    if causal and backward is not None:
        raise ValueError("backward is a state, but causal=True looks at nothing behind a token; pass backward=None")
    empty = empty_state(k.shape[0], k.shape[2], jnp.promote_types(v.dtype, jnp.float32))
    entry = (forward or empty, backward or empty)
    piece = Piece(implementation_in_pieces(implementation, k.dtype), max_decay, causal=causal)
    y, states = bi_wkv_piece(k, v, decay, bonus, receptance, entry, piece)
    assert states is not None  # with an entry
    return y, *states


def bi_wkv_context_parallel(
    k: Array,
    v: Array,
    decay: Array,
    bonus: Array,
    *,
    axis_name: str,
    receptance: Array | None = None,
    causal: bool = False,
    max_decay: float | None = None,
    implementation: str | None = None,
) -> Float[Array, "B T C"]:
    """``bi_wkv`` over a sequence whose tokens are spread over the devices of ``axis_name``, in order.

    To be called under ``jax.shard_map``, with every device's [B, T / devices, C]. Exact. Six arrays [B, C] per device
    are gathered, once in the forward and once in the backward pass; decay and bonus are the same on every device.
    """
    _check(k, v, decay, bonus, receptance)
    zero = 0 * lax.axis_index(axis_name)  # differs by device, as far as JAX knows: so the gradients of all are summed
    decay, bonus = (x + zero.astype(x.dtype) for x in (decay, bonus))
    piece = Piece(implementation_in_pieces(implementation, k.dtype), max_decay, causal=causal, axis_name=axis_name)
    return bi_wkv_piece(k, v, decay, bonus, receptance, None, piece)[0]


def free_decay(T: int) -> float:
    """The largest ``max_decay`` that makes nothing slower for sequences of T tokens."""
    return SAFE_EXPONENT / min(LONGEST_CHUNK, -(-T // TILE) * TILE)


def _check(k: Array, v: Array, decay: Array, bonus: Array, receptance: Array | None) -> None:
    if k.ndim != 3 or 0 in k.shape:
        raise ValueError(f"k has shape {k.shape}; expected [B, T, C] with B, T, C >= 1")
    tokens = {"v": v} if receptance is None else {"v": v, "receptance": receptance}
    expected = {name: (x, k.shape) for name, x in tokens.items()}
    expected |= {"decay": (decay, k.shape[2:]), "bonus": (bonus, k.shape[2:])}
    for name, (x, shape) in expected.items():
        if x.shape != shape:
            raise ValueError(f"{name} has shape {x.shape}; expected {shape}, to fit k of shape {k.shape}")
    for name, x in {"k": k, **tokens, "decay": decay, "bonus": bonus}.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}; expected a floating-point dtype")
