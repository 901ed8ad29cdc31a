"""Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598, eq. 6)."""

from typing import NamedTuple

import jax.numpy as jnp

from vrwkv_jax.typing import Array, Float


class Guidance(NamedTuple):
    """How strongly sampling follows the prompt: float32 scalars."""

    scale: Float[Array, ""]
    rescale: Float[Array, ""]
    mean: Float[Array, ""]


def classifier_free_guidance(
    unconditional: Float[Array, "*shape"], conditional: Float[Array, "*shape"], guidance_scale: float | Float[Array, ""]
) -> Float[Array, "*shape"]:
    """``unconditional + guidance_scale * (conditional - unconditional)``: away from what the model does unprompted.

    A scale of 1 gives ``conditional``, 0 gives ``unconditional``. Computed in float32, because a scale of 7.5
    multiplies the rounding of the difference; the result has the dtype of ``conditional``.
    """
    base = unconditional.astype(jnp.float32)
    return (base + guidance_scale * (conditional.astype(jnp.float32) - base)).astype(conditional.dtype)


def hold_mean(
    guided: Float[Array, "*frames H W C"], conditional: Float[Array, "*frames H W C"], share: float | Float[Array, ""]
) -> Float[Array, "*frames H W C"]:
    """Gives each frame of ``guided`` the means over its places of ``conditional``, but for a ``share`` from 0 to 1.

    The mean of a frame is its light. Guidance leads it to what the prompt usually looks like, in all frames alike, so
    that a clip that dims or flickers no longer does. That low frequencies are better guided less than high ones found
    Sadat et al. 2025, https://arxiv.org/abs/2506.19713; this is the lowest of them.
    """
    moved = (guided.astype(jnp.float32) - conditional.astype(jnp.float32)).mean((-3, -2), keepdims=True)
    return (guided - (1 - share) * moved).astype(guided.dtype)


def rescale_guidance(
    guided: Float[Array, "B *shape"], conditional: Float[Array, "B *shape"], share: float | Float[Array, ""]
) -> Float[Array, "B *shape"]:
    """Gives ``guided`` the standard deviation of ``conditional``, by a ``share`` from 0 (not at all) to 1.

    Guidance with a large scale makes pictures too bright and too strong in colour, most of all where the last timestep
    is pure noise (Lin et al. 2024, https://arxiv.org/abs/2305.08891, eq. 15 and 16).
    """
    axes = tuple(range(1, guided.ndim))
    factor = conditional.std(axes, keepdims=True) / guided.std(axes, keepdims=True)
    return guided * (share * factor + (1 - share))


def guided(output: Float[Array, "B *frames H W C"], clips: int, guidance: Guidance) -> Float[Array, "N *frames H W C"]:
    """The prediction for each of ``clips`` from those without and, if there are twice as many, with its prompt."""
    if len(output) == clips:
        return output
    unconditional, conditional = output[:clips], output[clips:]
    result = classifier_free_guidance(unconditional, conditional, guidance.scale)
    result = hold_mean(result, conditional, guidance.mean)
    return rescale_guidance(result, conditional, guidance.rescale)
