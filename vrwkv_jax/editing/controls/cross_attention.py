"""The edit's attention to its text by the source's maps of the same words, stronger or weaker (prompt-to-prompt)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.base import Needs, Prompts, Settings, active
from vrwkv_jax.editing.controls.words import split, token_map, word_tokens, word_values
from vrwkv_jax.models.control import Words
from vrwkv_jax.system.checks import Rule, between
from vrwkv_jax.system.errors import UserError, setting


@dataclass(frozen=True)
class CrossAttentionSettings(Settings):
    cross_attention: float = 0.0
    """Share of the steps in which words of both prompts keep the source's attention maps (prompt-to-prompt)."""
    cross_attention_words: tuple[str, ...] = ()
    """Other shares for single words of the edit's prompt, such as jeep=0.3."""
    replace_words: bool = False
    """A word that replaces another one takes that one's maps, too."""
    reweight: tuple[str, ...] = ()
    """Factors of the attention to words of the edit's prompt, such as snow=2."""

    def rules(self) -> dict[str, Rule]:
        return super().rules() | {
            "cross_attention": between(0, 1),
            "cross_attention_words": word_values(between(0, 1)),
            "reweight": word_values(between(-1000, 1000)),
        }


class CrossAttention:
    """Gives ``Words``."""

    hook = "cross_attention"
    neutral: Mapping[str, Any] = {"cross_attention": 0.0, "cross_attention_words": (), "reweight": ()}
    layers = None

    def steps(self, config: CrossAttentionSettings, prompts: Prompts, steps: int) -> list[Words]:
        """See ``EditControl``.

        Raises:
            UserError: a word stands not in the edit's prompt, or has no counterpart to take maps from.
        """
        tokenizer, source, edited = prompts
        tokens, known = token_map(tokenizer, source, edited, replace=config.replace_words)
        shares = np.where(known, config.cross_attention, 0.0)
        for word, share in map(split, config.cross_attention_words):
            places = word_tokens(tokenizer, edited, word)
            if not known[places].any():
                raise UserError(
                    f"{word!r} is not in the clip's prompt {source!r} ({setting('cross_attention_words')}), so it has "
                    f"no attention there: choose a word of both prompts, or add {setting('replace_words', True)}"
                )
            shares[places] = np.where(known[places], share, 0.0)
        weights = np.ones(tokenizer.max_length, np.float32)
        for word, factor in map(split, config.reweight):
            weights[word_tokens(tokenizer, edited, word)] = factor
        return [Words(jnp.asarray(tokens), active(shares, step, steps), jnp.asarray(weights)) for step in range(steps)]

    def needs(self, given: Words) -> Needs:
        if np.asarray(given.taken).any():
            return Needs.SOURCE
        return Needs.EDIT if (np.asarray(given.weights) != 1).any() else Needs.NOTHING

    def off(self, tokens: int) -> Words:
        return Words(jnp.eye(tokens), jnp.zeros(tokens, bool), jnp.ones(tokens))


CROSS_ATTENTION = CrossAttention()
