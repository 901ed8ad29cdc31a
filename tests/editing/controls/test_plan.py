"""Which step takes over what."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.controls.conftest import LENGTH
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import check_words, plan, relevant
from vrwkv_jax.system.checks import FieldErrors
from vrwkv_jax.system.errors import UserError

SOURCE, EDITED = "a red ball on grass", "a blue ball on grass"  # start a red ball on grass end


def steps_of(injections, name: str) -> list[int]:
    return [step for step, injection in enumerate(injections) if injection[name]]


def test_shares_of_the_steps(tokenizer):
    controls = ControlConfig(self_attention=0.5, features=0.26, mixer_keys=1.0)
    injections = plan(controls, tokenizer, SOURCE, EDITED, 10)
    assert len(injections) == 10
    assert steps_of(injections, "self_attention") == [0, 1, 2, 3, 4]
    assert steps_of(injections, "features") == [0, 1, 2]
    assert steps_of(injections, "mixer_keys") == list(range(10))
    assert not any(jnp.any(injection["cross_attention"].taken) for injection in injections)


def test_words_have_shares_of_their_own(tokenizer):
    controls = ControlConfig(cross_attention=0.4, cross_attention_words=("ball=0.8", "GRASS=0"))
    injections = plan(controls, tokenizer, SOURCE, EDITED, 5)
    taken = np.array([injection["cross_attention"].taken for injection in injections]).sum(axis=0)
    # blue has no counterpart in the source, so there is nothing to take
    assert taken.tolist() == [2, 2, 0, 4, 2, 0, 2] + [2] * (LENGTH - 7)
    replaced = plan(ControlConfig(cross_attention=0.4, replace_words=True), tokenizer, SOURCE, EDITED, 5)
    assert np.array([injection["cross_attention"].taken for injection in replaced]).sum(axis=0).tolist() == [2] * LENGTH


def test_factors_of_words(tokenizer):
    injections = plan(ControlConfig(reweight=("blue=3", "on=-1")), tokenizer, SOURCE, EDITED, 2)
    for injection in injections:
        assert injection["cross_attention"].weights.tolist() == [1, 1, 3, 1, -1] + [1] * (LENGTH - 5)


def test_blended_words_of_either_prompt(tokenizer):
    (injection,) = plan(ControlConfig(blend=("red", "blue", "ball")), tokenizer, SOURCE, EDITED, 1)
    assert [np.flatnonzero(row).tolist() for row in injection["blend"]] == [[2, 3], [2, 3]]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"blend": ("cat",)}, "'cat' is in neither prompt, 'a red ball on grass' or 'a blue ball on grass'"),
        ({"reweight": ("red=2",)}, "'red' is not in the prompt 'a blue ball on grass'"),
        ({"cross_attention_words": ("green=2",)}, "'green=2', where 2 is not between 0 and 1"),
        ({"cross_attention_words": ("blue=1",)}, "'blue' is not in the clip's prompt 'a red ball on grass'"),
    ],
)
def test_words_that_are_not_there(controls, message, tokenizer):
    with pytest.raises(Exception, match=message):
        plan(ControlConfig(**controls), tokenizer, SOURCE, EDITED, 2)


def test_words_of_one_of_several_edits(tokenizer):
    controls = ControlConfig(reweight=("blue=3", "ox=2"), blend=("ox", "ball"), cross_attention_words=("grass=1",))
    prompts = (EDITED, "a red ox on grass")
    check_words(controls, tokenizer, SOURCE, prompts)
    blue, ox = (relevant(controls, tokenizer, SOURCE, prompt) for prompt in prompts)
    assert blue == replace(controls, reweight=("blue=3",), blend=("ball",))
    assert ox == replace(controls, reweight=("ox=2",))  # the ball is in the clip's prompt


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"reweight": ("red=2",)}, "^reweight 'red=2' names a word of no prompt; expected one of an edit's"),
        ({"blend": ("cat",)}, "^blend 'cat' names a word of no prompt; expected one of the clip's"),
        ({"cross_attention_words": ("red=1",)}, "^cross_attention_words 'red=1' names a word of no prompt"),
        ({"cross_attention_words": ("blue=1",)}, "'blue' is not in the clip's prompt 'a red ball on grass'"),
    ],
)
def test_words_of_no_edit(controls, message, tokenizer):
    with pytest.raises(UserError, match=message):
        check_words(ControlConfig(**controls), tokenizer, SOURCE, (EDITED, "a ball"))


def test_a_word_with_two_numbers():
    with pytest.raises(FieldErrors, match=r"reweight .* names 'Blue' twice"):
        ControlConfig(reweight=("blue=3", "Blue=2"))


@pytest.mark.parametrize("value", ["jeep", "=3", "jeep=", "jeep=fast", "jeep=nan", " =1"])
def test_a_word_without_a_number(value):
    with pytest.raises(FieldErrors, match=f"reweight .* has {value!r}"):
        ControlConfig(reweight=(value,))


def test_what_another_control_needs_is_neutral_by_itself():
    assert ControlConfig(replace_words=True, blend_threshold=0.9).is_neutral
