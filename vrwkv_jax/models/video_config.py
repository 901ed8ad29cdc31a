"""What makes the image U-Net a video U-Net: the mixers, where they sit, and how frames see each other elsewhere."""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from vrwkv_jax.models.attention import FrameAttention
from vrwkv_jax.models.mixers.base import Placement, PooledNorms, Usual
from vrwkv_jax.models.mixers.fluencyve import FluencyVEConfig
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.mixers.tune_a_video import TuneAVideoConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.moved import old_settings
from vrwkv_jax.system.checks import Rule, check_fields

NO_MIXER = Usual(placement=())
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
    placement: tuple[Literal["auto", Placement], ...] = ("auto",)
    """Where mixers sit: on the skip connections, in the mid block, in the transformer blocks. auto: where the mixer is
    known to."""
    skip_gate: bool = False
    """Let the decoder's features gate the mixers on the skip connections."""
    attention: Literal["auto", FrameAttention] = "auto"
    """What self-attention of a frame sees: itself, the first and the previous frame, or every frame. auto: what the
    mixer is known with."""
    groupnorm_scope: Literal["auto", PooledNorms] = "auto"
    """Group normalisation takes its statistics from each frame, from the whole clip, or from the clip in residual
    blocks (resnets) and from each frame elsewhere. auto: what the mixer is known with."""
    vrwkv: VRWKVConfig = field(default_factory=VRWKVConfig)
    tune_a_video: TuneAVideoConfig = field(default_factory=TuneAVideoConfig)
    fluencyve: FluencyVEConfig = field(default_factory=FluencyVEConfig)
    released: ReleasedConfig = field(default_factory=ReleasedConfig)

    def __post_init__(self) -> None:
        rules: dict[str, Rule] = {}
        if self.placement == () and self.mixer != "none":
            rules["placement"] = lambda places: "names no place: use skip, mid or transformer, or mixer none"
        elif isinstance(self.placement, tuple) and len(self.placement) > 1 and "auto" in self.placement:
            rules["placement"] = lambda places: "names auto beside places: leave one of them out"
        check_fields(self, **rules)

    @property
    def chosen(self) -> Usual:
        """What the U-Net is made with: what is given here, and elsewhere what the mixer is known with."""
        usual = MIXERS[self.mixer].usual if self.mixer in MIXERS else NO_MIXER
        return Usual(
            placement=tuple(place for place in self.placement if place != "auto") or usual.placement,
            attention=usual.attention if self.attention == "auto" else self.attention,
            groupnorm_scope=usual.groupnorm_scope if self.groupnorm_scope == "auto" else self.groupnorm_scope,
        )

    def settled(self) -> "VideoConfig":
        """The same with nothing left open: what a run keeps."""
        return replace(self, **asdict(self.chosen))
