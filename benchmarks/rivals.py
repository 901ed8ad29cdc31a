"""The mixers and what is compared with them, by the names that benchmarks know them by."""

from typing import Any, get_args, get_type_hints

from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.mixers.released import ReleasedConfig

CORES = get_args(get_type_hints(ReleasedConfig)["temporal_core"])
RIVALS: dict[str, dict[str, Any]] = {
    "none": {"mixer": "none"},
    "extended": {"mixer": "none", "attention": "extended"},
    **{name: {"mixer": name} for name in MIXERS},
    **{
        f"released {core}": {"mixer": "released", "released": ReleasedConfig(temporal_core=core)}
        for core in CORES
        if core != ReleasedConfig().temporal_core
    },
}
"""The settings of ``VideoConfig`` that make each."""
