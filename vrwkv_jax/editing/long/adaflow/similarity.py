"""The cosines between the places of two frames, of which everything here asks for the largest alone."""

import jax
import jax.numpy as jnp

from vrwkv_jax.typing import Array, Float, Int

MAX_BYTES = 2**27  # float32 cosines held at once; beyond it the places are taken in slices


def best_matches(
    places: Float[Array, "S D"], others: Float[Array, "T D"]
) -> tuple[Float[Array, " S"], Int[Array, " S"]]:
    """``max_t cos(p_s, o_t)`` and the first t that has it, for features of length 1. In float32."""

    def nearest(place: Float[Array, " D"]) -> tuple[Array, Array]:
        cosines = jnp.einsum("d,td->t", place, others, precision="highest", preferred_element_type=jnp.float32)
        return cosines.max(), cosines.argmax().astype(jnp.int32)

    at_once = max(1, MAX_BYTES // (4 * len(others)))
    if at_once >= len(places):
        found: tuple[Array, Array] = jax.vmap(nearest)(places)
    else:
        found = jax.lax.map(nearest, places, batch_size=at_once)
    return found
