"""What an edit keeps of its source: the settings of all controls."""

from dataclasses import dataclass

from vrwkv_jax.editing.controls.blend import BlendSettings
from vrwkv_jax.editing.controls.cross_attention import CrossAttentionSettings
from vrwkv_jax.editing.controls.features import FeatureSettings
from vrwkv_jax.editing.controls.mixer_keys import MixerKeySettings
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.editing.controls.self_attention import SelfAttentionSettings
from vrwkv_jax.models.control import Acting, Layers
from vrwkv_jax.moved import old_settings


@old_settings(mixers="mixer_keys")
@dataclass(frozen=True)
class ControlConfig(  # the last base has the first fields
    BlendSettings, MixerKeySettings, FeatureSettings, SelfAttentionSettings, CrossAttentionSettings
):
    """What an edit keeps of its source, which is sampled beside it; nothing, if nothing is set.

    A share counts the steps that are sampled, from the noisy end: 0.4 of 50 steps are the first 20. What names words
    of several edits' prompts holds for those edits that have them.
    """

    @property
    def layers(self) -> Layers:
        """Where in the U-Net each control acts."""
        return tuple(
            Acting(name, control.hook, ("",) if control.layers is None else getattr(self, control.layers))
            for name, control in CONTROLS.items()
        )

    @property
    def is_neutral(self) -> bool:
        """Whether an edit with these controls is the same as without them."""
        return not any(self.switched_on(name) for name in CONTROLS)

    def switched_on(self, control: str) -> list[str]:
        """The settings that switch on ``control``, a name of ``CONTROLS``."""
        return [name for name, off in CONTROLS[control].neutral.items() if getattr(self, name) != off]
