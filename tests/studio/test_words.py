"""Words that are clicked become settings that the controls understand."""

import dataclasses

import pytest

from vrwkv_jax import built_in
from vrwkv_jax.config import ControlConfig
from vrwkv_jax.editing.controls.plan import check_words, plan
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.studio.words import ChosenWords, chosen_words, still_said, with_words, word_choices
from vrwkv_jax.system.checks import FieldErrors
from vrwkv_jax.system.errors import UserError

SOURCE = "A yellow star at night"
EDITED = ("a blue star at night, sketch", "a yellow heart in the snow")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pretrained(built_in.MODEL / "tokenizer")


def test_what_there_is_to_click(tokenizer):
    choices = word_choices(tokenizer, SOURCE, EDITED, replace_words=False)
    assert choices.reweight == ["a", "blue", "star", "at", "night", "sketch", "yellow", "heart", "in", "the", "snow"]
    assert choices.blend == ["A", "yellow", "star", "at", "night", "blue", "sketch", "heart", "in", "the", "snow"]
    assert choices.cross_attention_words == ["a", "star", "at", "night", "yellow"]
    replacing = word_choices(tokenizer, SOURCE, EDITED, replace_words=True)
    # "sketch" comes after all that the clip's prompt says, and stands in nothing's place.
    assert [word for word in replacing.reweight if word not in replacing.cross_attention_words] == ["sketch"]


@pytest.mark.parametrize("replace_words", [False, True])
def test_every_choice_is_one_that_the_controls_take(tokenizer, replace_words):
    choices = word_choices(tokenizer, SOURCE, EDITED, replace_words=replace_words)
    off = ControlConfig(replace_words=replace_words)
    for name, words in choices._asdict().items():
        for word in words:
            value = word if name == "blend" else f"{word}=0.5"
            check_words(dataclasses.replace(off, **{name: (value,)}), tokenizer, SOURCE, EDITED)
    # And no other word of the edits is.
    for word in set(choices.reweight) - set(choices.cross_attention_words):
        with pytest.raises(UserError):
            check_words(dataclasses.replace(off, cross_attention_words=(f"{word}=0.5",)), tokenizer, SOURCE, EDITED)


def test_without_edits_the_clips_words_can_be_blended_alone(tokenizer):
    choices = word_choices(tokenizer, SOURCE, (), replace_words=True)
    assert choices == ([], [], ["A", "yellow", "star", "at", "night"])


def test_clicked_words_become_settings_and_back():
    before = ControlConfig(features=0.3, blend=("moon",), reweight=("old=2",))
    chosen = ChosenWords({"star": 0.1 + 0.2, "a=b": 1}, {"sketch": -1.5, "blue": 1}, ["star", "blue"])
    config = with_words(before, chosen)
    assert config == ControlConfig(
        features=0.3,
        cross_attention_words=("star=0.30000000000000004", "a=b=1"),
        reweight=("sketch=-1.5",),
        blend=("star", "blue"),
    )
    assert chosen_words(config) == ({"star": 0.1 + 0.2, "a=b": 1.0}, {"sketch": -1.5}, ("star", "blue"))
    assert with_words(config, ChosenWords({}, {}, ())) == ControlConfig(features=0.3)


@pytest.mark.parametrize("chosen", [({"star": 2.0}, {}, ()), ({}, {"a": 2, "A": 3}, ()), ({}, {}, ("a", "a"))])
def test_what_is_not_allowed_is_refused(chosen):
    with pytest.raises(FieldErrors):
        with_words(ControlConfig(), ChosenWords(*chosen))


def test_words_that_no_prompt_says_any_more_go(tokenizer):
    config = ControlConfig(
        cross_attention_words=("star=0.5", "Yellow Star=0.3", "sketch=1", "moon=0.5"),
        reweight=("sketch=2", "yellow=2", "moon=2"),
        blend=("yellow star", "sketch", "moon"),
    )
    with pytest.raises(UserError):
        check_words(config, tokenizer, SOURCE, EDITED[:1])
    left = still_said(config, tokenizer, SOURCE, EDITED[:1])
    assert left == ControlConfig(
        cross_attention_words=("star=0.5",), reweight=("sketch=2",), blend=("yellow star", "sketch")
    )
    check_words(left, tokenizer, SOURCE, EDITED[:1])
    plan(left, tokenizer, SOURCE, EDITED[0], 3)
    assert still_said(config, tokenizer, SOURCE, ()) == ControlConfig()
