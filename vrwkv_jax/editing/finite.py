"""Latents that are no numbers would be decoded to a black clip: they end the work instead."""

import jax.numpy as jnp

from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float


def check_finite(latents: Float[Array, "..."], stage: str, likely: str) -> None:
    """Raises ``UserError``, with the stage that gave ``latents`` and the likely cause, unless all are finite."""
    if not jnp.isfinite(latents).all():
        raise UserError(f"{stage} gave latents that are no finite numbers: most likely {likely}")
