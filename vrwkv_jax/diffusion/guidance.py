"""Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598, eq. 6)."""

import jax.numpy as jnp

from vrwkv_jax.typing import Array, Float


def classifier_free_guidance(
    unconditional: Float[Array, "*shape"], conditional: Float[Array, "*shape"], guidance_scale: float | Float[Array, ""]
) -> Float[Array, "*shape"]:
    """``unconditional + guidance_scale * (conditional - unconditional)``: away from what the model does unprompted.

    A scale of 1 gives ``conditional``, 0 gives ``unconditional``. Computed in float32, because a scale of 7.5
    multiplies the rounding of the difference; the result has the dtype of ``conditional``.
    """
    base = unconditional.astype(jnp.float32)
    return (base + guidance_scale * (conditional.astype(jnp.float32) - base)).astype(conditional.dtype)
