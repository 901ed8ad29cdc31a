"""Words of the prompts to click on a page, and the settings of the controls that they become."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.words import find_word, split, token_map, words_in
from vrwkv_jax.models.tokenizer import Tokenizer


class WordChoices(NamedTuple):
    """Words that a control may name, each once, as they stand in the prompts, in their order."""

    cross_attention_words: list[str]
    """Of the edits, those for which there is attention in the clip to keep."""
    reweight: list[str]
    """Of the edits."""
    blend: list[str]
    """Of the clip, then of the edits."""


class ChosenWords(NamedTuple):
    """Words that were chosen: with a share of the steps, with a factor, or as they are."""

    cross_attention_words: Mapping[str, float]
    reweight: Mapping[str, float]
    blend: Sequence[str]


def word_choices(tokenizer: Tokenizer, source: str, edited: Sequence[str], *, replace_words: bool) -> WordChoices:
    """What there is to click where the clip shows ``source`` and its edits shall show ``edited``.

    ``replace_words`` is that of ``ControlConfig``: with it, words keep attention, too, that have taken others' places.
    """
    of_edits = _once(word for prompt in edited for word in words_in(tokenizer, prompt))
    return WordChoices(
        [word for word in of_edits if _is_kept(tokenizer, source, edited, word, replace_words)],
        of_edits,
        _once([*words_in(tokenizer, source), *of_edits]),
    )


def chosen_words(controls: ControlConfig) -> ChosenWords:
    """The words that ``controls`` name."""
    return ChosenWords(
        dict(map(split, controls.cross_attention_words)), dict(map(split, controls.reweight)), controls.blend
    )


def with_words(controls: ControlConfig, chosen: ChosenWords) -> ControlConfig:
    """``controls`` that name these words, in the place of any others. A factor of 1 changes nothing and is left out.

    Raises:
        FieldErrors: a word is there twice, or a number is not allowed.
    """
    return replace(
        controls,
        cross_attention_words=tuple(f"{word}={share!r}" for word, share in chosen.cross_attention_words.items()),
        reweight=tuple(f"{word}={factor!r}" for word, factor in chosen.reweight.items() if factor != 1),
        blend=tuple(chosen.blend),
    )


def still_said(controls: ControlConfig, tokenizer: Tokenizer, source: str, edited: Sequence[str]) -> ControlConfig:
    """``controls`` without the words that can't be named any more, as after a prompt was changed.

    What is left passes ``Editor.check_controls``.
    """
    kept = [
        value
        for value in controls.cross_attention_words
        if _is_kept(tokenizer, source, edited, split(value)[0], controls.replace_words)
    ]
    of_edits = [value for value in controls.reweight if _is_said(tokenizer, edited, split(value)[0])]
    of_any = [word for word in controls.blend if edited and _is_said(tokenizer, [source, *edited], word)]
    return replace(controls, cross_attention_words=tuple(kept), reweight=tuple(of_edits), blend=tuple(of_any))


def _is_said(tokenizer: Tokenizer, prompts: Sequence[str], word: str) -> bool:
    return any(find_word(tokenizer, prompt, word) for prompt in prompts)


def _is_kept(tokenizer: Tokenizer, source: str, edited: Sequence[str], word: str, replace_words: bool) -> bool:
    """Whether an edit says ``word``, and for each that does there is attention in the clip."""
    found = [(prompt, places) for prompt in edited if (places := find_word(tokenizer, prompt, word))]
    return bool(found) and all(
        token_map(tokenizer, source, prompt, replace=replace_words).known[places].any() for prompt, places in found
    )


def _once(words: Iterable[str]) -> list[str]:
    """Each, whatever its case, as it stands where it is first."""
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.lower(), word)  # as settings with numbers tell them apart
    return list(found.values())
