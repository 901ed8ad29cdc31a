"""What makes the image U-Net a video U-Net: the mixers, where they sit, and how frames see each other elsewhere."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vrwkv_jax.models.attention import FrameAttention
from vrwkv_jax.models.layers import GroupNormScope
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.moved import old_settings
from vrwkv_jax.system.checks import Rule, check_fields

Placement = Literal["skip", "mid", "transformer"]
if TYPE_CHECKING:
    MixerName = str
else:
    MixerName = Literal[(*MIXERS, "none")]


@old_settings(**{name: f"vrwkv.{name}" for name in ("token_order", "projection", "decay_norm", "init", "first_frame")})
@dataclass(frozen=True)
class VideoConfig:
    """How the frames of a clip are mixed. Each mixer has its own settings, in the section of its name."""

    mixer: MixerName = "vrwkv"
    """What carries information between the frames: one of the mixers below, or none."""
    placement: tuple[Placement, ...] = ("skip", "mid")
    """Where mixers sit: on the skip connections, in the mid block, in the transformer blocks."""
    skip_gate: bool = False
    """Let the decoder's features gate the mixers on the skip connections."""
    attention: FrameAttention = "frame"
    """What self-attention of a frame sees: itself, the first and the previous frame, or every frame."""
    groupnorm_scope: GroupNormScope = "frame"
    """Group normalisation takes its statistics from each frame, or from the whole clip."""
    vrwkv: VRWKVConfig = field(default_factory=VRWKVConfig)

    def __post_init__(self) -> None:
        rules: dict[str, Rule] = {}
        if self.placement == () and self.mixer != "none":
            rules["placement"] = lambda places: "names no place: use skip, mid or transformer, or mixer none"
        check_fields(self, **rules)
