"""What is kept of a U-Net's deep blocks from one step to the next (DeepCache, https://arxiv.org/abs/2312.00858)."""

from dataclasses import dataclass
from typing import NamedTuple

from vrwkv_jax.models.control import Control
from vrwkv_jax.typing import Array, Float


class Deep(NamedTuple):
    """What a call of the U-Net that ran all blocks has come to where its deep ones end."""

    features: Float[Array, "B F h w C"]
    """Those that the first of the shallow blocks on the way up takes in."""
    maps: tuple[Float[Array, "2 F _ _"], ...]
    """Those of words (``Control.maps``) of all layers so far: what deep attention says of places stays known."""


@dataclass
class DeepCache:
    """For one call of a U-Net: made and used within one trace.

    The ``depth`` outermost skip connections, what leads to them on the way down, and what takes them in on the way up
    are shallow, and run in every call. The rest is deep: the mixers of its skip connections and of the middle, too.
    """

    depth: int
    deep: Deep | None = None
    """What an earlier call left here. None: this one runs all blocks, and leaves it here."""

    @property
    def is_filled(self) -> bool:
        return self.deep is not None

    def border(self, hidden: Float[Array, "B F _ _ _"], control: Control | None) -> Float[Array, "B F h w C"]:
        """The features with which to go on where the deep blocks end, given what this call has come to there."""
        maps = [] if control is None else control.maps
        if self.deep is None:
            self.deep = Deep(hidden, tuple(maps))
        maps.extend(self.deep.maps[len(maps) :])
        return self.deep.features
