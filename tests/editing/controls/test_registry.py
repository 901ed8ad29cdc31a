"""Every control that is registered has all its parts; where one is missing, this says which, and where it belongs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.models.tiny_unet import abstract
from vrwkv_jax.editing.controls.base import Prompts
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.models.control import HOOKS
from vrwkv_jax.models.video_config import VideoConfig

DOCS = Path(__file__).parents[3] / "docs" / "controls.md"
SETTINGS = {field.name: field.default for field in dataclasses.fields(ControlConfig)}


def has_its_settings(control: Any, tokenizer: Any) -> str | None:
    named = [*control.neutral, *([] if control.layers is None else [control.layers])]
    missing = [name for name in named if name not in SETTINGS]
    if missing:
        return f"editing/controls/config.py: ControlConfig has no {', '.join(missing)}: add its settings to the bases"
    return None


def is_off_by_default(control: Any, tokenizer: Any) -> str | None:
    on = [name for name, value in control.neutral.items() if SETTINGS.get(name) != value]
    return f"ControlConfig() has not the neutral value of {', '.join(on)}" if on or not control.neutral else None


def has_a_place_in_the_unet(control: Any, tokenizer: Any) -> str | None:
    paths = abstract(VideoConfig())[1]
    if control.hook not in HOOKS:
        return f"acts at {control.hook!r}, which models/control.py has not: expected one of {', '.join(HOOKS)}"
    return None if any(HOOKS[control.hook] in path for path in paths) else f"the U-Net has no {HOOKS[control.hook]}"


def gives_what_off_gives(control: Any, tokenizer: Any) -> str | None:
    def shape(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    given = control.steps(ControlConfig(), Prompts(tokenizer, "a red ball", "a blue ball"), 3)
    if [shape(values) for values in given] != [shape(control.off(tokenizer.max_length))] * 3:
        return "`off` and `steps` give arrays of other shapes or types, or not one for each step"
    if any(control.needs(values) for values in [*given, control.off(tokenizer.max_length)]):
        return "`needs` is not Needs.NOTHING for what it gives where it is off"
    return None


def is_in_the_docs(control: Any, tokenizer: Any) -> str | None:
    flag = f"--{next(iter(control.neutral)).replace('_', '-')}"
    return None if f"\n| `{flag} " in DOCS.read_text() else f"docs/controls.md has no row for {flag}"


CHECKS = [has_its_settings, is_off_by_default, has_a_place_in_the_unet, gives_what_off_gives, is_in_the_docs]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CONTROLS)
def test_every_control(name, check, tokenizer):
    assert check(CONTROLS[name], tokenizer) is None


def test_each_setting_that_switches_a_control_on_makes_the_edit_another():
    assert ControlConfig().is_neutral
    on = {0.0: 0.1, (): ("ball=1",)}
    for control in CONTROLS.values():
        for name, value in control.neutral.items():
            assert not ControlConfig(**{name: on[value]}).is_neutral, name


def test_of_a_control_that_is_half_made_every_missing_part_is_named(tokenizer):
    class Half:
        hook, neutral, layers = "corner", {"half": 0.0}, "half_layers"

        def steps(self, config, prompts, steps):
            return [CONTROLS["features"].off(0)] * steps

        def off(self, tokens):
            return CONTROLS["blend"].off(tokens)

    assert [check(Half(), tokenizer) for check in CHECKS] == [
        "editing/controls/config.py: ControlConfig has no half, half_layers: add its settings to the bases",
        "ControlConfig() has not the neutral value of half",
        "acts at 'corner', which models/control.py has not: expected one of cross_attention, word_maps, "
        "self_attention, residual, mixer",
        "`off` and `steps` give arrays of other shapes or types, or not one for each step",
        "docs/controls.md has no row for --half",
    ]
