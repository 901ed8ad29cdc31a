"""The selective scan as its formula is written, token by token. For reading and for tests."""

import jax.numpy as jnp
from jax import lax

from pallas_kernels.selective_scan.piece import Arguments
from pallas_kernels.typing import Array, Float


def selective_scan_reference(
    arguments: Arguments, state: Float[Array, "B E N"] | None = None, *, reverse: bool = False
) -> tuple[Float[Array, "B T E"], Float[Array, "B E N"]]:
    """The recurrence of Mamba (arXiv 2312.00752, equation 2a and 2b, with the discretisation of its section 3.2):

        h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t        y_t = sum_n C_t h_t + D x_t

    Args:
        arguments: of any floating dtype; computed in float32, or in float64 where one of them is float64.
        state: [B, E, N], h before the first token; None: zero.
        reverse: from the last token to the first.

    Returns:
        y in the dtype of x, and the state behind the last token.
    """
    x, dt, A, B, C, D = (x.astype(arguments.inner_dtype) for x in arguments)
    h = jnp.zeros_like(A, shape=(x.shape[0], *A.shape)) if state is None else state.astype(x.dtype)

    def step(h: Float[Array, "B E N"], token: tuple[Array, ...]) -> tuple[Float[Array, "B E N"], Float[Array, "B E"]]:
        x, dt, B, C = token
        h = jnp.exp(dt[:, :, None] * A) * h + (dt * x)[:, :, None] * B[:, None]
        return h, jnp.sum(C[:, None] * h, axis=2) + D * x

    h, y = lax.scan(step, h, tuple(jnp.moveaxis(x, 1, 0) for x in (x, dt, B, C)), reverse=reverse)
    return jnp.moveaxis(y, 0, 1).astype(arguments.x.dtype), h
