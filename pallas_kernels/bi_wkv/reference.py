"""Bi-WKV as its formula is written: dense, O(T^2) time and memory. For reading and for tests."""

import jax
import jax.numpy as jnp

from pallas_kernels.typing import Array, Float


def bi_wkv_reference(
    k: Float[Array, "B T C"],
    v: Float[Array, "B T C"],
    decay: Float[Array, "C"],
    bonus: Float[Array, "C"],
    receptance: Float[Array, "B T C"] | None = None,
    *,
    causal: bool = False,
) -> Float[Array, "B T C"]:
    """The weighted mean of ``v``, per channel, with weights of ``exp``:

        weight(t, i) = exp(k_i - (|t - i| - 1) * decay)    for i != t
        weight(t, t) = exp(k_t + bonus)
        y_t          = sum_i weight(t, i) v_i / sum_i weight(t, i)

    A softmax over i is the same quotient, so growth with distance (negative decay) is no special case.

    Args:
        k, v: [B, T, C], any floating dtype; computed in float32, or in float64 where ``v`` is float64.
        decay, bonus: [C], per step.
        receptance: [B, T, C] or None; when given, y is multiplied by its sigmoid.
        causal: the sum goes over i <= t alone.

    Returns:
        [B, T, C] in the dtype of ``v``.
    """
    dtype = jnp.promote_types(v.dtype, jnp.float32)
    k, values, decay, bonus = (x.astype(dtype) for x in (k, v, decay, bonus))
    position = jnp.arange(k.shape[1])
    distance = jnp.abs(position[:, None] - position[None, :])[..., None]
    exponent = jnp.where(distance == 0, bonus, (1 - distance).astype(dtype) * decay)  # [T, T, C]
    if causal:
        exponent = jnp.where((position[:, None] >= position[None, :])[..., None], exponent, -jnp.inf)
    weights = jax.nn.softmax(exponent[None] + k[:, None], axis=2)  # [B, T, T, C]
    y = jnp.einsum("btic,bic->btc", weights, values, precision="highest")
    if receptance is not None:
        y = jax.nn.sigmoid(receptance.astype(dtype)) * y
    return y.astype(v.dtype)
