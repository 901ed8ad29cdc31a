"""The door of mixers: what a module that carries information between frames has. ``registry`` names those there are."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from flax import nnx

from vrwkv_jax.models.attention import FrameAttention
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.control import Control
from vrwkv_jax.typing import Array, Float

Placement = Literal["skip", "mid", "transformer"]
PooledNorms = Literal["frame", "video", "resnets"]
"""Group normalisation over each frame; over the clip; over the clip in residual blocks, over each frame elsewhere."""

Carries = Literal["both ways", "onwards", "nothing"]
"""What a mixer hands on between the chunks of a clip: states of a recurrence over frames, to the next chunk and the one
before; to the next one alone; or nothing, because frames see each other at once."""

TO_Q = r"/attn[12]/to_q/"
"""What asks the questions in both attentions: tuned beside most mixers, and where there is none."""


@dataclass(frozen=True)
class Usual:
    """What a mixer is known with: the settings of ``VideoConfig`` where nothing else is given."""

    placement: tuple[Placement, ...]
    attention: FrameAttention = "frame"
    groupnorm_scope: PooledNorms = "frame"


class Mixer(Protocol):
    """Takes and returns ``B F H W C``, its own residual connection included.

    Before ``control.mixer`` it makes what decides which places of the clip are read, such as queries and keys.

    The rules are regular expressions on the whole path of a parameter within the mixer, such as ``norm1/scale``.
    """

    Config: ClassVar[type]
    """Its settings, a frozen dataclass: the section of ``VideoConfig`` that is called as the mixer is."""
    usual: ClassVar[Usual]
    """What it is known with: where it sits, and how frames see each other elsewhere."""
    trained: ClassVar[str]
    """What else of the U-Net is tuned with it: a regular expression, found in whole paths of the U-Net."""
    is_identity: ClassVar[bool]
    """Whether a new one gives its clip back unchanged; where not, its docstring says what it starts as."""
    has_bi_wkv: ClassVar[bool]
    """Whether it is made of Bi-WKV, whose implementation can be chosen; the others leave ``bi_wkv`` aside."""
    gains: ClassVar[str]
    """What learns at a higher rate and without weight decay: vectors of order 1, such as decays and norms."""
    ends: ClassVar[str]
    """What all that it adds goes through at last, as a factor: at zero, it gives its clip back."""
    float32: ClassVar[str]
    """What stays in float32 when the model computes in bfloat16, such as exponents."""
    cut: ClassVar[dict[str, int]]
    """Kernels that devices hold in pieces -> the axis along which they are cut; the first that matches."""

    def __init__(
        self,
        channels: int,
        config: Any,
        *,
        heads: int,
        layer: int,
        num_layers: int,
        bi_wkv: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        """``heads`` are those of attention at its resolution; ``layer`` of ``num_layers`` says how deep it stands;
        ``bi_wkv`` names an implementation, or None."""

    @classmethod
    def bypass(cls, channels: int, config: Any, *, heads: int, rngs: nnx.Rngs) -> Bypass | None:
        """What the method has in self-attention, wherever its mixers sit; None: nothing."""

    @classmethod
    def carries(cls, config: Any) -> Carries:
        """How clips go through it in chunks: with ``mix_chunk``, and both ways also ``chunk_state``, of SharedMixer."""

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None = None) -> Float[Array, "B F H W C"]: ...
