"""What frames take from keyframes: the output of self-attention, from the places that look like their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vrwkv_jax.editing.long.adaflow.similarity import best_matches
from vrwkv_jax.typing import Array, Bool, Float, Int


class Taking(NamedTuple):
    """From which of K keyframes each of F frames takes: from one, P = 1, or from two."""

    keyframes: Int[Array, "P F"]
    weights: Float[Array, "P F"]
    """They sum to 1 over P."""
    is_own: Bool[Array, "P F"]
    """Where the frame is that keyframe itself."""


def matches(
    features: Float[Array, "F S D"], of_keyframes: Float[Array, "K S D"], taking: Taking
) -> Int[Array, "P F S"]:
    """phi: for each place of a frame the place of its keyframe that is most like it, the first of several."""
    own = jnp.arange(features.shape[1], dtype=jnp.int32)

    def match(of_frame: tuple[Array, Array, Array]) -> Int[Array, " S"]:
        frame, keyframe, is_own = of_frame
        return jnp.where(is_own, own, best_matches(features[frame], of_keyframes[keyframe])[1])

    times = len(taking.keyframes)
    frames = jnp.tile(jnp.arange(len(features)), times)
    found: Array = jax.lax.map(match, (frames, taking.keyframes.reshape(-1), taking.is_own.reshape(-1)))
    return found.reshape(times, len(features), -1)


def propagate(
    outputs: Float[Array, "R K S N D"], phi: Int[Array, "P F S"], taking: Taking
) -> Float[Array, "R F S N D"]:
    """``sum_p weights[p, f] outputs[:, keyframes[p, f], phi[p, f, s]]`` for every frame and place."""
    taken = [
        weights.astype(outputs.dtype)[:, None, None, None] * outputs[:, keyframes[:, None], places]
        for keyframes, weights, places in zip(taking.keyframes, taking.weights, phi, strict=True)
    ]
    total: Array = sum(taken[1:], taken[0])
    return total
