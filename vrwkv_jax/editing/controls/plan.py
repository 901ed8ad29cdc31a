"""From a configuration of controls and two prompts to what is taken over in each step."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from vrwkv_jax.editing.controls.base import Needs, Prompts
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.editing.controls.words import check_not_cut_off, find_word, split
from vrwkv_jax.models.control import HOOKS, Injection
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError, setting

# The places that a control can tell from each other, in the paths of parameters.
PLACE = re.compile(r"((?:.+/)?(?:(?:attentions|resnets|skips)/\d+|mid_block/mixer))/")


def plan(config: ControlConfig, tokenizer: Tokenizer, source: str, prompt: str, steps: int) -> list[Injection]:
    """What each of ``steps`` steps of sampling takes over from the clip, whose prompt is ``source``; the first first.

    Raises:
        UserError: a word that is named stands in neither prompt, or not in ``prompt`` where it must, or has no
            counterpart to take maps from.
    """
    prompts = Prompts(tokenizer, source, prompt)
    given = {name: control.steps(config, prompts, steps) for name, control in CONTROLS.items()}
    return [{name: values[step] for name, values in given.items()} for step in range(steps)]


def needs(injection: Injection) -> Needs:
    """What a step needs for all controls to act as ``injection`` says."""
    return max(control.needs(injection[name]) for name, control in CONTROLS.items())


def neutral_injection(tokens: int) -> Injection:
    """What changes nothing, for prompts of so many ``tokens``; of the shapes of any other."""
    return {name: control.off(tokens) for name, control in CONTROLS.items()}


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
    for name, control in CONTROLS.items():
        switched_on = config.switched_on(name)
        if not switched_on:
            continue
        here = [path for path in paths if HOOKS[control.hook] in path]
        if not here:
            share, kind = switched_on[0], control.hook.replace("_", "-")
            raise UserError(f"{setting(share)} is {getattr(config, share)}, and this model has no {kind}: leave it out")
        if control.layers is not None:
            _check_places(control.layers, getattr(config, control.layers), here)


def _check_places(name: str, places: Sequence[str], paths: Sequence[str]) -> None:
    parts = [match[1].split("/") for path in paths if (match := PLACE.match(path))]
    known = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
    for place in places:
        if place not in known:
            blocks = sorted(part for part in known if re.fullmatch(r"\w+_block(s/\d+)?", part))
            raise UserError(
                f"{setting(name)} {place!r} is no place in this U-Net with such a layer; expected one of "
                f"{', '.join(blocks)}, or a part such as {max(known)}"
            )
