"""The door of mixers: what a module that carries information between frames has. ``registry`` names those there are."""

from typing import Any, ClassVar, Protocol

from flax import nnx

from vrwkv_jax.models.control import Control
from vrwkv_jax.typing import Array, Float


class Mixer(Protocol):
    """Takes and returns ``B F H W C``, its own residual connection included; a new one is the identity.

    Before ``control.mixer`` it makes what decides which places of the clip are read, such as queries and keys.

    The rules are regular expressions on the whole path of a parameter within the mixer, such as ``norm1/scale``.
    """

    Config: ClassVar[type]
    """Its settings, a frozen dataclass: the section of ``VideoConfig`` that is called as the mixer is."""
    has_bi_wkv: ClassVar[bool]
    """Whether it is made of Bi-WKV, whose implementation can be chosen; the others leave ``bi_wkv`` aside."""
    gains: ClassVar[str]
    """What learns at a higher rate and without weight decay: vectors of order 1, such as decays and norms."""
    float32: ClassVar[str]
    """What stays in float32 when the model computes in bfloat16, such as exponents."""
    cut: ClassVar[dict[str, int]]
    """Kernels that devices hold in pieces -> the axis along which they are cut; the first that matches."""

    def __init__(
        self, channels: int, config: Any, *, layer: int, num_layers: int, bi_wkv: str | None, rngs: nnx.Rngs
    ) -> None:
        """``layer`` of ``num_layers`` says how deep it stands; ``bi_wkv`` names an implementation, or None."""

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None = None) -> Float[Array, "B F H W C"]: ...
