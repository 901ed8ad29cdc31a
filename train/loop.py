"""Where ``tune`` was until 0.1: it is ``vrwkv_jax.tune`` now."""

import warnings
from typing import Any

from vrwkv_jax.tuning import loop


def __getattr__(name: str) -> Any:
    warnings.warn("train.loop has moved: import tune from vrwkv_jax", DeprecationWarning, stacklevel=2)
    return getattr(loop, name)
