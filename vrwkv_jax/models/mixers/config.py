"""What makes the image U-Net a video U-Net: the mixers, where they sit, and how frames see each other elsewhere."""

from dataclasses import dataclass
from typing import Any, Literal

from vrwkv_jax.system.checks import at_least, check_fields, distinct, flag, one_of


@dataclass(frozen=True)
class VideoConfig:
    """How the frames of a clip are mixed."""

    mixer: Literal["vrwkv", "none"] = "vrwkv"
    """Video mixer: vrwkv (linear in the number of tokens), or none."""
    placement: tuple[Literal["skip", "mid", "transformer"], ...] = ("skip", "mid")
    """Where mixers sit: on the skip connections, in the mid block, in the transformer blocks."""
    token_order: Literal["factorised", "joint"] = "factorised"
    """Scan each frame and then each location over time (factorised), or all tokens of the clip at once (joint)."""
    projection: Literal["linear", "conv"] = "linear"
    """What projects tokens to R, K and V: a matrix, or a 3x3 convolution of the frame."""
    decay_norm: Literal["length", "none"] | int = "length"
    """Divide distances by the length scanned, by nothing, or by a number: one that holds for clips of any length."""
    init: Literal["fancy", "local", "global"] = "fancy"
    """Vision-RWKV's initial decay, bonus and token shift."""
    first_frame: Literal["repeat", "zero"] = "repeat"
    """What precedes the first frame: the first frame again, or zeros (which dim it)."""
    skip_gate: bool = False
    """Let the decoder's features gate the mixers on the skip connections."""
    attention: Literal["frame", "sparse_causal", "extended"] = "frame"
    """What self-attention of a frame sees: itself, the first and the previous frame, or every frame."""
    groupnorm_scope: Literal["frame", "video"] = "frame"
    """Group normalisation takes its statistics from each frame, or from the whole clip."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            mixer=one_of("vrwkv", "none"),
            placement=self._check_placement,
            token_order=one_of("factorised", "joint"),
            projection=one_of("linear", "conv"),
            decay_norm=one_of("length", "none") if isinstance(self.decay_norm, str) else at_least(1),
            init=one_of("fancy", "local", "global"),
            first_frame=one_of("repeat", "zero"),
            skip_gate=flag,
            attention=one_of("frame", "sparse_causal", "extended"),
            groupnorm_scope=one_of("frame", "video"),
        )

    def _check_placement(self, places: Any) -> str | None:
        if places == () and self.mixer != "none":
            return "names no place: use skip, mid or transformer, or mixer none"
        return distinct(one_of("skip", "mid", "transformer"))(places)
