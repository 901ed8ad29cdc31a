"""Makes the mixers of a U-Net: the one place where a mixer is chosen by name."""

from typing import cast

from flax import nnx

from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.mixers.base import Placement
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError, setting


class MixerFactory:
    """Makes the mixers of one U-Net, in the order of its forward pass within each placement.

    Some are initialised by how deep they stand, so the factory is told how many there can be at each placement.
    ``bi_wkv`` names the implementation of that operation (None: what suits the device).

    Raises:
        UserError: the U-Net has nothing of what the configuration names as places.
    """

    def __init__(
        self,
        config: VideoConfig,
        *,
        skip: int,
        mid: int,
        transformer: int,
        bi_wkv: str | None = None,
        rngs: nnx.Rngs,
    ):
        counts = {"skip": skip, "mid": mid, "transformer": transformer}
        self.config, self.bi_wkv, self.rngs = config, bi_wkv, rngs
        self.placement = config.chosen.placement
        self.total = sum(counts[placement] for placement in self.placement)
        self.made = 0
        if config.mixer != "none" and not self.total:
            there = [placement for placement, count in counts.items() if count]
            raise UserError(
                f"{setting('placement')} is {', '.join(self.placement)}, which this model's U-Net does not have; "
                f"expected {' or '.join(there)}"
            )

    def bypass(self, channels: int, heads: int) -> Bypass | None:
        """What stands beside the scores of a self-attention, or None where the mixer's method has nothing there."""
        name = self.config.mixer
        if name == "none":
            return None
        return MIXERS[name].bypass(channels, getattr(self.config, name), heads=heads, rngs=self.rngs)

    def make(self, placement: Placement, channels: int, heads: int) -> nnx.Module | None:
        """The next mixer at ``placement``, or None where the configuration has none.

        ``heads`` are those of attention at that resolution.
        """
        name = self.config.mixer
        if name == "none" or placement not in self.placement:
            return None
        layer, self.made = self.made, self.made + 1
        own = getattr(self.config, name)
        place = {"heads": heads, "layer": layer, "num_layers": self.total}
        return cast(nnx.Module, MIXERS[name](channels, own, **place, bi_wkv=self.bi_wkv, rngs=self.rngs))
