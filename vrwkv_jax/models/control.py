"""What an edit takes over from its source inside the U-Net, where both run side by side in one batch.

The rows of the batch are clips: first the source under its own prompt, then the edit, under the negative prompt if it
is guided and, last, under its prompt. Nothing is kept from one layer to the next but the maps of a few words.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.typing import Array, Bool, Float


class Injection(NamedTuple):
    """What is taken over in one step of sampling: arrays, so that one compiled program serves all steps.

    The first three concern attention to the text (prompt-to-prompt, https://arxiv.org/abs/2208.01626).
    """

    tokens: Float[Array, "L L"]
    """Attention to the source's tokens becomes attention to the edit's: ``map @ tokens``."""
    taken: Bool[Array, " L"]
    """The edit's tokens for which that replaces its own attention."""
    weights: Float[Array, " L"]
    """Factors of the attention to the edit's tokens."""
    words: Float[Array, "2 L"]
    """Weights of the tokens (source's, edit's) whose maps are wanted."""
    self_attention: Bool[Array, ""]
    features: Bool[Array, ""]
    mixers: Bool[Array, ""]


class Layers(NamedTuple):
    """Where it is taken over: places in the U-Net such as "up_blocks/1" (all within) or "" (everywhere). Static."""

    self_attention: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """An injection at one place of the U-Net, which ``at`` leads to. Made and used within one trace."""

    injection: Injection
    layers: Layers
    rows: int
    place: str = ""
    maps: list[Array] = field(default_factory=list)
    """Of each cross-attention so far: attention to the chosen words of source and edit, ``[2, F, h, w]``."""

    def at(self, place: str) -> "Control":
        return replace(self, place=f"{self.place}/{place}".lstrip("/"))

    def features(self, hidden: Float[Array, "B *rest"]) -> Float[Array, "B *rest"]:
        """A residual block's own contribution (plug-and-play, https://arxiv.org/abs/2211.12572)."""
        return self._take(hidden, self.injection.features) if self._is_in(self.layers.features) else hidden

    def mixers(self, *tensors: Float[Array, "B *rest"]) -> list[Array]:
        """What decides which tokens a mixer reads: the counterpart of queries and keys."""
        return [self._take(tensor, self.injection.mixers) for tensor in tensors]

    def self_attention(self, q: Array, k: Array, v: Array) -> Array:
        """With the source's queries and keys, hence its map; the leading axis may be rows times frames."""
        if self._is_in(self.layers.self_attention):
            q, k = (self._take(tensor, self.injection.self_attention) for tensor in (q, k))
        return dot_product_attention(q, k, v)

    def cross_attention(
        self,
        q: Float[Array, "B Q N D"],
        k: Float[Array, "B L N D"],
        v: Float[Array, "B L N D"],
        shape: tuple[int, int, int],
    ) -> Float[Array, "B Q N D"]:
        """Attention to the text, of the last row in part with the first row's map; ``shape`` is (F, h, w), of Q tokens.

        A map that is mixed from two and then applied to the values equals the two maps, each applied to its part of the
        values: ``(P_source M + P_edit (1 - taken)) diag(weights) V``. So no map is ever formed here.
        """
        tokens, taken, weights, words = self.injection[:4]
        plain = dot_product_attention(q, k, v)
        ends = jnp.array([0, self.rows - 1])

        def mixed() -> Array:
            from_source = jnp.einsum("st,tnd->snd", (tokens * (taken * weights)).astype(v.dtype), v[-1])
            own = v[-1] * (~taken * weights).astype(v.dtype)[:, None, None]
            return dot_product_attention(q[ends], k[ends], jnp.stack([from_source, own])).sum(0)

        is_neutral = ~taken.any() & (weights == 1).all()
        edited = jax.lax.cond(is_neutral, lambda: plain[-1], mixed)
        selector = jnp.zeros((2, *v.shape[1:]), v.dtype).at[..., 0].set(words.astype(v.dtype)[..., None])
        maps = dot_product_attention(q[ends], k[ends], selector)[..., 0].mean(-1)
        self.maps.append(maps.reshape(2, *shape))
        return plain.at[-1].set(edited)

    def _is_in(self, places: tuple[str, ...]) -> bool:
        return any(f"{self.place}/".startswith(f"{place}/") or not place for place in places)

    def _take(self, tensor: Float[Array, "B *rest"], active: Bool[Array, ""]) -> Float[Array, "B *rest"]:
        """The first row in place of the others, if ``active``."""
        rows = tensor.reshape(self.rows, -1, *tensor.shape[1:])
        return jnp.concatenate([rows[:1], jnp.where(active, rows[:1], rows[1:])]).reshape(tensor.shape)
