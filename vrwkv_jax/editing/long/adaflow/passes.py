"""What self-attention does in the two passes of a step: among keyframes, and from keyframes to frames.

Both are controls of the U-Net (``models/control.py``), and all else that controls do goes on beside them. The source's
row, if there is one, attends within its own frames in both, as in its inversion: what the edit takes over from it is
what the frame itself has there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
from einops import rearrange

from vrwkv_jax.editing.long.adaflow.propagation import Taking, propagate
from vrwkv_jax.editing.long.adaflow.slimming import slimmed_attention
from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.models.control import Control
from vrwkv_jax.typing import Array, Float, Int

Outputs = dict[str, Array]
"""Place of a transformer block -> what self-attention gave there, ``Float[R K S N D]``: of the rows of the edit, for K
keyframes, before the last projection."""
Edited = Callable[[Array, Array, Array], Array]
"""(q, k, v) of the edit's rows, ``Float[R F S N D]``, to what self-attention gives."""


@dataclass(frozen=True, kw_only=True)
class _Pass(Control):
    has_source: bool

    def _attend(
        self, edited: Edited, q: Float[Array, "B S N D"], k: Float[Array, "B S N D"], v: Float[Array, "B S N D"]
    ) -> Float[Array, "B S N D"]:
        """The source's row by itself, the others by ``edited``."""
        first = int(self.has_source)
        own, others = zip(*((x[:first], x[first:]) for x in map(self._by_row, (q, k, v))), strict=True)
        found = edited(*others)
        if self.has_source:
            source = dot_product_attention(*(x[0] for x in own))
            found = jnp.concatenate([source[None].astype(found.dtype), found])
        return rearrange(found, "r f s n d -> (r f) s n d")

    def _by_row(self, x: Float[Array, "B S N D"]) -> Float[Array, "R F S N D"]:
        return rearrange(x, "(r f) s n d -> r f s n d", r=self.rows)


@dataclass(frozen=True, kw_only=True)
class KeyframePass(_Pass):
    """Keyframes attend to each other, with the source's queries and keys where a control says so."""

    indices: dict[int, Int[Array, "M T"] | None]
    """Number of a frame's tokens -> those that each keyframe attends to (``slimmed``)."""
    outputs: Outputs = field(default_factory=dict)

    def self_attention(self, q: Array, k: Array, v: Array) -> Array:
        def edited(q: Array, k: Array, v: Array) -> Array:
            self.outputs[self.place] = slimmed_attention(q, k, v, self.indices[q.shape[2]])
            return self.outputs[self.place]

        q, k = self._source_in_place("self_attention", q, k)
        return self._attend(edited, q, k, v)


@dataclass(frozen=True, kw_only=True)
class FramePass(_Pass):
    """Frames take the outputs of keyframes, and attend to nothing themselves."""

    outputs: Outputs
    phi: dict[int, Int[Array, "P F S"]]
    """Number of a frame's tokens -> ``matches``."""
    taking: Taking

    def self_attention(self, q: Array, k: Array, v: Array) -> Array:
        def edited(q: Array, k: Array, v: Array) -> Array:
            return propagate(self.outputs[self.place], self.phi[q.shape[2]], self.taking)

        return self._attend(edited, q, k, v)
