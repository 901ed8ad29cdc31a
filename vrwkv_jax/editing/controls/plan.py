"""From a configuration of controls and two prompts to what is taken over in each step."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.config import ControlConfig, split
from vrwkv_jax.editing.controls.words import check_not_cut_off, find_word, token_map, word_tokens
from vrwkv_jax.models.control import Injection
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.typing import Array, Float

# The places that a control can tell from each other, in the paths of parameters.
PLACE = re.compile(r"((?:.+/)?(?:attentions|resnets)/\d+)/")


def plan(config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str, steps: int) -> list[Injection]:
    """What each of ``steps`` steps of sampling takes over from the clip, whose prompt is ``source``; the first first.

    Raises:
        UserError: a word that is named stands in neither prompt, or not in ``prompt`` where it must, or has no
            counterpart to take maps from.
    """
    tokens, known = token_map(tokenizer, source, prompt, replace=config.replace_words)
    shares = np.where(known, config.cross_attention, 0.0)
    for word, share in map(split, config.cross_attention_words):
        places = word_tokens(tokenizer, prompt, word)
        if not known[places].any():
            raise UserError(
                f"{word!r} is not in the clip's prompt {source!r} ({setting('cross_attention_words')}), so it has no "
                f"attention there: choose a word of both prompts, or add {setting('replace_words', True)}"
            )
        shares[places] = np.where(known[places], share, 0.0)
    weights = np.ones(tokenizer.max_length, np.float32)
    for word, factor in map(split, config.reweight):
        weights[word_tokens(tokenizer, prompt, word)] = factor
    words = blended_tokens(config, tokenizer, source, prompt)

    def active(share: float | np.ndarray, step: int) -> Array:
        return jnp.asarray(step < np.round(np.asarray(share) * steps))

    return [
        Injection(
            tokens=jnp.asarray(tokens),
            taken=active(shares, step),
            weights=jnp.asarray(weights),
            words=jnp.asarray(words),
            self_attention=active(config.self_attention, step),
            features=active(config.features, step),
            mixers=active(config.mixers, step),
        )
        for step in range(steps)
    ]


def relevant(config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str) -> ControlConfig:
    """``config`` for one of several edits: without the words that are not in it."""

    def said(word: str, *prompts: str) -> bool:
        return any(find_word(tokenizer, text, word) for text in prompts)

    return replace(
        config,
        cross_attention_words=tuple(v for v in config.cross_attention_words if said(split(v)[0], prompt)),
        reweight=tuple(v for v in config.reweight if said(split(v)[0], prompt)),
        blend=tuple(word for word in config.blend if said(word, source, prompt)),
    )


def check_words(config: ControlConfig, tokenizer: Tokenizer, source: str, prompts: Sequence[str]) -> None:
    """Raises UserError where ``config`` can't be followed in the edits to ``prompts``, or names words of none."""
    found = [relevant(config, tokenizer, source, prompt) for prompt in prompts]
    for prompt, own in zip(prompts, found, strict=True):
        plan(own, tokenizer, source, prompt, 0)
    for name in ("cross_attention_words", "reweight", "blend"):
        for value in getattr(config, name) if prompts else ():
            if not any(value in getattr(own, name) for own in found):
                word = value if name == "blend" else split(value)[0]
                for text in (*prompts, *([source] if name == "blend" else [])):
                    check_not_cut_off(tokenizer, text, word)
                expected = "the clip's or an edit's" if name == "blend" else "an edit's"
                raise UserError(f"{setting(name)} {value!r} names a word of no prompt; expected one of {expected}")


def check_layers(config: ControlConfig, paths: Collection[str]) -> None:
    """Raises UserError where ``config`` names a place that is none of the U-Net's with these paths of parameters."""
    if config.mixers and not any("/mixer/" in path for path in paths):
        raise UserError(
            f"{setting('mixers')} is {config.mixers}, and this model has none ({setting('mixer', 'none')}): "
            "leave it at 0"
        )
    for share, name, places, within in (
        (config.self_attention, "self_attention_layers", config.self_attention_layers, "/attn1/"),
        (config.features, "feature_layers", config.feature_layers, "/resnets/"),
    ):
        parts = [match[1].split("/") for path in paths if within in path and (match := PLACE.match(path))]
        known = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
        for place in places if share else ():
            if place not in known:
                blocks = sorted(name for name in known if re.fullmatch(r"\w+_block(s/\d+)?", name))
                raise UserError(
                    f"{setting(name)} {place!r} is no place in this U-Net with such a layer; expected one of "
                    f"{', '.join(blocks)}, or a part such as {max(known)}"
                )


def blended_tokens(config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str) -> Float[np.ndarray, "2 L"]:
    """1 for the tokens of the words to blend, in the source's prompt and in the edit's."""
    selected = np.zeros((2, tokenizer.max_length), np.float32)
    for word in config.blend:
        found = [find_word(tokenizer, text, word) for text in (source, prompt)]
        if not any(found):
            for text in (source, prompt):
                check_not_cut_off(tokenizer, text, word)
            raise UserError(f"{word!r} is in neither prompt, {source!r} or {prompt!r}; expected a word of them")
        for row, positions in enumerate(found):
            selected[row, positions] = 1
    return selected
