"""Adaptive attention slimming: keyframes attend to the tokens of all keyframes that are most like their own."""

import jax
import jax.numpy as jnp
from einops import rearrange

from vrwkv_jax.editing.long.adaflow.similarity import best_matches
from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.typing import Array, Float, Int


def slimmed(features: Float[Array, "M S D"], budget: int) -> Int[Array, "M T"] | None:
    """The tokens, of the M S of all keyframes, that each keyframe attends to; None: to all.

    A token's score for a keyframe is its largest cosine to any of the keyframe's tokens. The keyframe's own T / M are
    always among the T = ``budget`` S with the highest scores; indices go up.
    """
    keyframes, tokens, channels = features.shape
    if keyframes <= budget:
        return None
    everything = features.reshape(-1, channels)

    def chosen(keyframe: Int[Array, ""]) -> Int[Array, " T"]:
        scores = best_matches(everything, features[keyframe])[0].reshape(keyframes, tokens)
        scores = scores.at[keyframe].set(jnp.inf)
        found: Array = jnp.sort(jax.lax.top_k(scores.reshape(-1), budget * tokens)[1])
        return found

    indices: Array = jax.lax.map(chosen, jnp.arange(keyframes))
    return indices


def slimmed_attention(
    q: Float[Array, "R M S N D"],
    k: Float[Array, "R M S N D"],
    v: Float[Array, "R M S N D"],
    indices: Int[Array, "M T"] | None,
) -> Float[Array, "R M S N D"]:
    """Attention of each keyframe to the tokens of ``slimmed``, in all rows to the same; None: to all (extended).

    One keyframe after the other, so that the keys and values of one of them are gathered at a time.
    """
    keyframes = q.shape[1]
    queries, keys, values = (rearrange(x, "r m s n d -> r (m s) n d") for x in (q, k, v))
    if indices is None:
        return rearrange(dot_product_attention(queries, keys, values), "r (m s) n d -> r m s n d", m=keyframes)

    def attend(of_keyframe: tuple[Array, Array]) -> Float[Array, "R S N D"]:
        own, tokens = of_keyframe
        return dot_product_attention(own, keys[:, tokens], values[:, tokens])

    attended: Array = jax.lax.map(attend, (rearrange(q, "r m s n d -> m r s n d"), indices))
    return rearrange(attended, "m r s n d -> r m s n d")
