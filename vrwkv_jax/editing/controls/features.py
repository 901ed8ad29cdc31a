"""The source's features in the residual blocks of the edit, which keep shapes and places (plug-and-play)."""

from dataclasses import dataclass

from vrwkv_jax.editing.controls.base import Settings, SourceInPlace
from vrwkv_jax.system.checks import Rule, between, distinct, text


@dataclass(frozen=True)
class FeatureSettings(Settings):
    features: float = 0.0
    """Share of the steps in which residual blocks give the source's features (plug-and-play)."""
    feature_layers: tuple[str, ...] = ("up_blocks/1/resnets/1",)
    """Which residual blocks."""

    def rules(self) -> dict[str, Rule]:
        return super().rules() | {"features": between(0, 1), "feature_layers": distinct(text)}


FEATURES = SourceInPlace("residual", share="features", layers="feature_layers")
