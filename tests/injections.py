"""What all controls give in one step, everywhere in the U-Net."""

from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.editing.controls.plan import neutral_injection
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.models.control import Acting, Injection

EVERYWHERE = tuple(Acting(name, control.hook) for name, control in CONTROLS.items())


def injection(tokens: int, **values: Any) -> Injection:
    """What changes nothing, for prompts of so many ``tokens``, but for the controls that ``values`` names."""
    return neutral_injection(tokens) | jax.tree.map(jnp.asarray, values)
