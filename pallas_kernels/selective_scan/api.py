"""The entries to every implementation.

Arguments are plain arrays here, for ``_check`` says more of a wrong shape than their types would.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.implementation import implementation_for, implementation_in_pieces
from pallas_kernels.selective_scan.piece import Arguments, Piece, Result, selective_scan_piece
from pallas_kernels.selective_scan.reference import selective_scan_reference
from pallas_kernels.typing import Array, Float


def selective_scan(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    *,
    reverse: bool = False,
    implementation: str | None = None,
) -> Float[Array, "B T E"]:
    """The recurrence of Mamba (arXiv 2312.00752, S6), N numbers of state per channel:

        h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t        y_t = sum_n C_t h_t + D x_t

    Args:
        x: [B, T, E], float32, bfloat16 or float16; B, T, E >= 1.
        dt: [B, T, E], the step, at least 0 (after softplus). A token with dt = 0 leaves the state alone.
        A: [E, N], N >= 1; below 0, so that states fade. Where it is not, they grow: right as long as they fit in
            float32, and inf or NaN beyond.
        B, C: [B, T, N], what is written into the state and read from it, the same in every channel.
        D: [E], the skip.
        reverse: from the last token to the first.
        implementation: "mosaic" (Pallas kernels, NVIDIA GPUs from compute capability 8.0 on; with jax before 0.11 only
            9.0), "scan" (plain JAX, every platform) or "reference" (token by token). By default "mosaic" where it can
            run, else "scan".

    Returns:
        [B, T, E] in the dtype of ``x``. Computed in float32; differentiable in every array.

    Raises:
        ValueError: a shape, a dtype or the implementation's name is wrong, or that implementation can't run here.
    """
    return _run(_checked(x, dt, A, B, C, D), None, reverse, implementation)[0]


def selective_scan_with_state(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    *,
    state: Array | None = None,
    reverse: bool = False,
    implementation: str | None = None,
) -> tuple[Float[Array, "B T E"], Float[Array, "B E N"]]:
    """``selective_scan`` over a piece of a sequence, given the state of the tokens before it (``reverse``: behind it).

    Args:
        x, dt, A, B, C, D, reverse, implementation: as for ``selective_scan``.
        state: [B, E, N]; None: nothing, which is zero.

    Returns:
        y [B, T, E]; the state [B, E, N] for the next piece (``reverse``: for the previous one), in float32. Gradients
        flow through both states.

    Raises:
        ValueError: as for ``selective_scan``.
    """
    arguments = _checked(x, dt, A, B, C, D, state)
    if state is None:
        state = jnp.zeros((x.shape[0], *A.shape), arguments.inner_dtype)
    y, out = _run(arguments, state, reverse, implementation)
    assert out is not None  # with a state
    return y, out


def selective_scan_context_parallel(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    *,
    axis_name: str,
    reverse: bool = False,
    implementation: str | None = None,
) -> Float[Array, "B T E"]:
    """``selective_scan`` over a sequence whose tokens are spread over the devices of ``axis_name``, in order.

    To be called under ``jax.shard_map``, with every device's [B, T / devices, E]. Exact. A state and the sum of dt,
    [B, N + 1, E] per device, are gathered, once in the forward and once in the backward pass; A and D are the same on
    every device. Under ``check_vma=False`` where kernels run: they don't say how what they return differs by device.
    """
    *arrays, _ = _alike((*_checked(x, dt, A, B, C, D), lax.axis_index(axis_name)))
    arguments = Arguments(*arrays)
    chosen = implementation_in_pieces(implementation, arguments.inner_dtype)
    return selective_scan_piece(arguments, None, Piece(chosen, reverse, axis_name))[0]


def _run(arguments: Arguments, state: Array | None, reverse: bool, implementation: str | None) -> Result:
    if state is None:
        arguments = Arguments(*_alike(arguments))
    else:
        *arrays, state = _alike((*arguments, state))
        arguments = Arguments(*arrays)
    chosen = implementation_for(implementation, arguments.inner_dtype)
    if chosen == "reference":
        return selective_scan_reference(arguments, state, reverse=reverse)
    return selective_scan_piece(arguments, state, Piece(chosen, reverse))


def _alike(arrays: Sequence[Array]) -> list[Array]:
    """Under ``shard_map``: all as arrays that differ by device, along every axis along which one of them does.

    A gradient has to differ as its array does. So those of arrays that were the same on all devices, such as A, are
    summed over these outside of the op, where JAX does it by itself.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return list(arrays)
    zeros = [jnp.zeros_like(x, shape=(), dtype=jnp.float32) for x in arrays]
    zero = sum(zeros[1:], zeros[0])
    return [x + zero.astype(x.dtype) for x in arrays]


def _checked(x: Array, dt: Array, A: Array, B: Array, C: Array, D: Array, state: Array | None = None) -> Arguments:
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected [B, T, E] with B, T, E >= 1")
    if A.ndim != 2 or A.shape[0] != x.shape[2] or A.shape[1] == 0:
        raise ValueError(f"A has shape {A.shape}; expected [{x.shape[2]}, N] with N >= 1, to fit x of shape {x.shape}")
    states = (*x.shape[:2], A.shape[1])
    expected = {"dt": (dt, x.shape), "B": (B, states), "C": (C, states), "D": (D, x.shape[2:])}
    if state is not None:
        expected["state"] = state, (x.shape[0], *A.shape)
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape}; expected {shape}, to fit x of shape {x.shape} and A of {A.shape}"
            )
    for name, array in {"x": x, "A": A, **{name: array for name, (array, _) in expected.items()}}.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}; expected a floating-point dtype")
    return Arguments(x, dt, A, B, C, D)
