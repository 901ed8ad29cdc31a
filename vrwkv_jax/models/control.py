"""What an edit takes over from its source inside the U-Net, where both run side by side in one batch.

The rows of the batch are clips: first the source under its own prompt, then the edit, under the negative prompt if it
is guided and, last, under its prompt. Nothing is kept from one layer to the next but the maps of a few words.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.models.chunk import Chunk
from vrwkv_jax.typing import Array, Bool, Float

HOOKS = {
    "cross_attention": "/attn2/",
    "word_maps": "/attn2/",
    "self_attention": "/attn1/",
    "residual": "/resnets/",
    "mixer": "/mixer/",
}
"""Where in the U-Net's layers a control can act -> what the paths of the parameters there have in them.

At ``cross_attention`` it gives ``Words``, at ``word_maps`` weights of the tokens (source's, edit's) whose maps are
wanted, ``Float[2 L]``, and elsewhere whether the source's tensors take the place of the edit's, ``Bool[]``.
"""


class Words(NamedTuple):
    """What is taken over of attention to the text (prompt-to-prompt, https://arxiv.org/abs/2208.01626)."""

    tokens: Float[Array, "L L"]
    """Attention to the source's tokens becomes attention to the edit's: ``map @ tokens``."""
    taken: Bool[Array, " L"]
    """The edit's tokens for which that replaces its own attention."""
    weights: Float[Array, " L"]
    """Factors of the attention to the edit's tokens."""


Injection = dict[str, Any]
"""Name of a control -> what it gives in one step of sampling: arrays, so that one program serves all steps."""


class Acting(NamedTuple):
    """Where a control acts: at a hook, in places of the U-Net such as "up_blocks/1" (all within) or "" (everywhere)."""

    control: str
    hook: str
    places: tuple[str, ...] = ("",)


Layers = tuple[Acting, ...]
"""Where all controls act. Static."""


@dataclass(frozen=True)
class Control:
    """An injection at one place of the U-Net, which ``at`` leads to. Made and used within one trace."""

    injection: Injection
    layers: Layers
    rows: int
    place: str = ""
    maps: list[Array] = field(default_factory=list)
    """Of each cross-attention so far: attention to the chosen words of source and edit, ``[2, F, h, w]``."""
    chunk: Chunk | None = None
    """Where the frames are a chunk of a longer clip: what the mixers know of the others."""

    def at(self, place: str) -> "Control":
        return replace(self, place=f"{self.place}/{place}".lstrip("/"))

    def of(self, hook: str) -> "Control":
        """What acts at ``hook`` here, for modules of one shape to share their program wherever they stand."""
        here = tuple(acting._replace(places=("",)) for acting in self._acting(hook))
        return Control({acting.control: self.injection[acting.control] for acting in here}, here, self.rows)

    def up_block(self, index: int, hidden: Float[Array, "B F H W C"]) -> None:
        """Is shown what an up block gives, its upsampler included; here it looks away."""

    def residual(self, hidden: Float[Array, "B *rest"]) -> Float[Array, "B *rest"]:
        """A residual block's own contribution (plug-and-play, https://arxiv.org/abs/2211.12572)."""
        return self._source_in_place("residual", hidden)[0]

    def mixer(self, *tensors: Float[Array, "B ..."]) -> list[Array]:
        """What decides which tokens a mixer reads: the counterpart of queries and keys."""
        return self._source_in_place("mixer", *tensors)

    def self_attention(self, q: Array, k: Array, v: Array) -> Array:
        """With the source's queries and keys, hence its map; the leading axis may be rows times frames."""
        q, k = self._source_in_place("self_attention", q, k)
        return dot_product_attention(q, k, v)

    def cross_attention(
        self,
        q: Float[Array, "B Q N D"],
        k: Float[Array, "B L N D"],
        v: Float[Array, "B L N D"],
        shape: tuple[int, int, int],
    ) -> Float[Array, "B Q N D"]:
        """Attention to the text, of the last row in part with the first row's map; ``shape`` is (F, h, w) of the Q."""
        result = dot_product_attention(q, k, v)
        ends = jnp.array([0, self.rows - 1])
        q, k = q[ends], k[ends]
        for acting in self._acting("cross_attention"):
            result = result.at[-1].set(_mixed(result[-1], q, k, v[-1], self.injection[acting.control]))
        for acting in self._acting("word_maps"):
            chosen = self.injection[acting.control].astype(v.dtype)
            selector = jnp.zeros((2, *v.shape[1:]), v.dtype).at[..., 0].set(chosen[..., None])
            maps = dot_product_attention(q, k, selector)[..., 0].mean(-1)
            self.maps.append(maps.reshape(2, *shape))
        return result

    def _acting(self, hook: str) -> list[Acting]:
        """What acts at ``hook`` here."""
        return [acting for acting in self.layers if acting.hook == hook and self._is_in(acting.places)]

    def _is_in(self, places: tuple[str, ...]) -> bool:
        return any(f"{self.place}/".startswith(f"{place}/") or not place for place in places)

    def _source_in_place(self, hook: str, *tensors: Float[Array, "B ..."]) -> list[Array]:
        """The first row in place of the others, if a control says so."""
        taken = list(tensors)
        for acting in self._acting(hook):
            taken = [self._first_row(tensor, self.injection[acting.control]) for tensor in taken]
        return taken

    def _first_row(self, tensor: Float[Array, "B *rest"], active: Bool[Array, ""]) -> Float[Array, "B *rest"]:
        rows = tensor.reshape(self.rows, -1, *tensor.shape[1:])
        return jnp.concatenate([rows[:1], jnp.where(active, rows[:1], rows[1:])]).reshape(tensor.shape)


def _mixed(
    own: Float[Array, "Q N D"],
    q: Float[Array, "2 Q N D"],
    k: Float[Array, "2 L N D"],
    v: Float[Array, "L N D"],
    words: Words,
) -> Float[Array, "Q N D"]:
    """The edit's ``own`` attention to its text, or that with the source's map for some of the words.

    A map that is mixed from two and then applied to the values equals the two maps, each applied to its part of the
    values: ``(P_source M + P_edit (1 - taken)) diag(weights) V``. So no map is ever formed here. That is
    0.3 % of a step's operations (counted; Stable Diffusion 1.5, 512 x 512), and done also where there is nothing to
    mix: to choose, a GPU would wait for the host.
    """
    tokens, taken, weights = words
    from_source = jnp.einsum("st,tnd->snd", (tokens * (taken * weights)).astype(v.dtype), v)
    rest = v * (~taken * weights).astype(v.dtype)[:, None, None]
    mixed = dot_product_attention(q, k, jnp.stack([from_source, rest])).sum(0)
    return jnp.where(~taken.any() & (weights == 1).all(), own, mixed)
