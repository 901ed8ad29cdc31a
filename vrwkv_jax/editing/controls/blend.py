"""Local blend: where a clip may change, told from its attention to words (prompt-to-prompt, section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tyro.conf import arg

from vrwkv_jax.editing.controls.base import Needs, Prompts, Settings
from vrwkv_jax.editing.controls.words import check_not_cut_off, find_word
from vrwkv_jax.system.checks import Rule, at_least, between, default_shown, distinct, optional, text
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Bool, Float


@dataclass(frozen=True)
class BlendSettings(Settings):
    blend: tuple[str, ...] = ()
    """Only where attention to these words is, of either prompt, may the clip change."""
    mask: Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)] = None
    """A picture or a clip: nothing changes but where it is white, or, of cut-outs opaque, of labels not 0 or black."""
    blend_threshold: float = 0.5
    """Share of the strongest attention, above the median, from which on a place belongs to the words."""
    blend_dilation: int = 1
    """Pixels of the latents by which the mask is grown."""
    blend_start: float = 0.2
    """Share of the steps before the mask is used."""

    def rules(self) -> dict[str, Rule]:
        return super().rules() | {
            "blend": distinct(text),
            "mask": optional(text),
            "blend_threshold": between(0, 1),
            "blend_dilation": at_least(0),
            "blend_start": between(0, 1),
        }


class Blend:
    """Gives the words whose maps are wanted, in every step alike; the mask is made of these, outside of the U-Net."""

    hook = "word_maps"
    neutral: Mapping[str, Any] = {"blend": ()}
    layers = None

    def steps(self, config: BlendSettings, prompts: Prompts, steps: int) -> list[Array]:
        """See ``EditControl``.

        Raises:
            UserError: a word is in neither prompt.
        """
        return [jnp.asarray(_tokens(config.blend, prompts))] * steps

    def needs(self, given: Array) -> Needs:
        """The source in every step, for the maps of all steps count."""
        return Needs.SOURCE if np.asarray(given).any() else Needs.NOTHING

    def off(self, tokens: int) -> Array:
        return jnp.zeros((2, tokens))


BLEND = Blend()


def _tokens(words: Sequence[str], prompts: Prompts) -> Float[np.ndarray, "2 L"]:
    """1 for the tokens of ``words``, in the source's prompt and in the edit's."""
    tokenizer, *texts = prompts
    selected = np.zeros((2, tokenizer.max_length), np.float32)
    for word in words:
        found = [find_word(tokenizer, prompt, word) for prompt in texts]
        if not any(found):
            for prompt in texts:
                check_not_cut_off(tokenizer, prompt, word)
            raise UserError(
                f"{word!r} is in neither prompt, {prompts.source!r} or {prompts.edited!r}; expected a word of them"
            )
        for row, positions in enumerate(found):
            selected[row, positions] = 1
    return selected


def word_attention(maps: Sequence[Float[Array, "2 F _ _"]], height: int, width: int) -> Float[Array, "2 F H W"]:
    """The mean over layers of their maps of the chosen words, each brought to the size of the latents."""
    sizes = [(2, maps[0].shape[1], height, width)] * len(maps)
    resized = [jax.image.resize(m.astype(jnp.float32), size, "linear") for m, size in zip(maps, sizes, strict=True)]
    return jnp.mean(jnp.stack(resized), axis=0)


def mask_from_attention(attention: Float[Array, "2 F H W"], threshold: float, dilation: int) -> Bool[Array, "F H W"]:
    """Where the attention to the words is at least ``threshold`` of its maximum in the frame, in source or edit.

    It counts from the frame's median, for every place attends to every word a little. Smoothed over frames (1-2-1)
    before the threshold, and grown by ``dilation`` places in all directions after it. Where attention is the same
    everywhere the mask is empty.
    """
    before = jnp.concatenate([attention[:, :1], attention[:, :-1]], axis=1)
    after = jnp.concatenate([attention[:, 1:], attention[:, -1:]], axis=1)
    smooth = (before + 2 * attention + after) / 4
    smooth = smooth - jnp.median(smooth, axis=(2, 3), keepdims=True)
    most = smooth.max(axis=(2, 3), keepdims=True)
    mask = ((smooth >= threshold * most) & (most > 0)).any(axis=0)
    size = 2 * dilation + 1
    grown: Array = lax.reduce_window(mask, False, lax.bitwise_or, (1, size, size), (1, 1, 1), "SAME")
    return grown


def mask_in_latents(places: Bool[np.ndarray, "F H W"], height: int, width: int) -> Bool[np.ndarray, "F h w"]:
    """A place of the latents may change if any of its pixels may."""
    rows, columns = (size // small for size, small in zip(places.shape[1:], (height, width), strict=True))
    return np.asarray(np.any(places.reshape(len(places), height, rows, width, columns), axis=(2, 4)))
