"""From a configuration of controls and two prompts to what is taken over in each step."""

from collections.abc import Collection

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.config import ControlConfig, split
from vrwkv_jax.editing.controls.words import find_word, token_map, word_tokens
from vrwkv_jax.errors import UserError
from vrwkv_jax.models.control import Injection
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.typing import Array, Float


def plan(
    config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str, num_inference_steps: int
) -> list[Injection]:
    """What each step of sampling takes over from the clip, whose prompt is ``source``; the noisiest step first.

    Raises:
        UserError: a word that is named stands in neither prompt, or not in ``prompt`` where it must.
    """
    tokens, known = token_map(tokenizer, source, prompt, replace=config.replace_words)
    shares = np.where(known, config.cross_attention, 0.0)
    for word, share in map(split, config.cross_attention_words):
        places = word_tokens(tokenizer, prompt, word)
        shares[places] = np.where(known[places], share, 0.0)
    weights = np.ones(tokenizer.max_length, np.float32)
    for word, factor in map(split, config.reweight):
        weights[word_tokens(tokenizer, prompt, word)] = factor
    words = blended_tokens(config, tokenizer, source, prompt)

    def active(share: float | np.ndarray, step: int) -> Array:
        return jnp.asarray(step < np.round(np.asarray(share) * num_inference_steps))

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
        for step in range(num_inference_steps)
    ]


def check_layers(config: ControlConfig, paths: Collection[str]) -> None:
    """Raises UserError where ``config`` names a place that is none of the U-Net's with these paths of parameters."""
    for share, flag, places, within in (
        (config.self_attention, "--self-attention-layers", config.self_attention_layers, "/attn1/"),
        (config.features, "--feature-layers", config.feature_layers, "/resnets/"),
    ):
        of_kind = [path for path in paths if within in path]
        for place in places if share else ():
            if not any(path.startswith(f"{place}/") for path in of_kind):
                known = sorted({"/".join(path.split("/")[:depth]) for path in of_kind for depth in (1, 2)})
                raise UserError(
                    f"{flag} {place!r} is no place in this U-Net with such a layer; expected one of "
                    f"{', '.join(name for name in known if '_block' in name.split('/')[-1] or name[-1].isdigit())}, "
                    "or a place within"
                )


def blended_tokens(config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str) -> Float[np.ndarray, "2 L"]:
    """1 for the tokens of the words to blend, in the source's prompt and in the edit's."""
    selected = np.zeros((2, tokenizer.max_length), np.float32)
    for word in config.blend:
        found = [find_word(tokenizer, text, word) for text in (source, prompt)]
        if not any(found):
            raise UserError(f"{word!r} is in neither prompt, {source!r} or {prompt!r}; expected a word of them")
        for row, positions in enumerate(found):
            selected[row, positions] = 1
    return selected
