"""The video mixers of the edit by the source's keys and receptance, which keep motion."""

from dataclasses import dataclass

from vrwkv_jax.editing.controls.base import Settings, SourceInPlace
from vrwkv_jax.system.checks import Rule, between


@dataclass(frozen=True)
class MixerKeySettings(Settings):
    mixer_keys: float = 0.0
    """Share of the steps in which the mixers use the source's keys and receptance."""

    def rules(self) -> dict[str, Rule]:
        return super().rules() | {"mixer_keys": between(0, 1)}


MIXER_KEYS = SourceInPlace("mixer", share="mixer_keys")
