"""A configuration is given back as the command line that makes it."""

import dataclasses
import operator
import re
import warnings

import pytest

from tests.config.settings import ALSO_UNUSUAL, SECTIONS, UNUSUAL
from vrwkv_jax.config import (
    EditCommand,
    EditConfig,
    TuneConfig,
    command_line,
    edit_command_line,
    parse_edit_command,
    parse_tune_config,
)
from vrwkv_jax.config.editing import DEFAULT_PRESET, PRESETS
from vrwkv_jax.config.flags import defaults
from vrwkv_jax.config.schema import flag_of


def single_changes(config: TuneConfig) -> list[tuple[str, TuneConfig]]:
    """The configuration with one setting at a time as in the unusual one."""
    changed = []
    for section in ("", *SECTIONS):
        names = section.split(".") if section else []
        for field in dataclasses.fields(operator.attrgetter(section)(UNUSUAL) if section else UNUSUAL):
            value = operator.attrgetter(".".join([*names, field.name]))(UNUSUAL)
            if not dataclasses.is_dataclass(value):
                changed.append((field.name, with_setting(config, [*names, field.name], value)))
    return changed


def with_setting(config, path, value):
    first, *rest = path
    inner = with_setting(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: inner})


def parsed(words: list[str]) -> TuneConfig:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* changes nothing ")
        return parse_tune_config(words)


def edit_parsed(words: list[str], run: TuneConfig) -> EditCommand:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* changes nothing ")
        return parse_edit_command(words, lambda directory: run)


def flags(words: list[str]) -> list[str]:
    return [match[0].replace("--no-", "--") for word in words if (match := re.match(r"--[a-z]\S*?(?==|$)", word))]


def leaves(config: object) -> list[str]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return [
        leaf
        for name, value in values.items()
        for leaf in (leaves(value) if dataclasses.is_dataclass(value) else [name])
    ]


@pytest.mark.parametrize("model", [None, "sd"])
@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_need_their_model_and_preset_alone(model, preset):
    config = dataclasses.replace(defaults(model, None, preset), model=model)
    expected = ["--preset", preset] if preset != DEFAULT_PRESET else []
    assert command_line(config) == [*expected, *(["--model", "sd"] if model else [])]


@pytest.mark.long
def test_each_setting_makes_its_flag_alone():
    base = defaults(None, None)
    checked = set()
    for name, config in single_changes(base):
        words = command_line(config)
        assert parsed(words) == config, (name, words)
        if name not in ("model", "long"):  # on which the defaults depend
            expected = {flag_of(name)} if config != base else set()
            assert set(flags(words)) == expected, words
        checked.add(name)
    assert checked == set(leaves(TuneConfig()))


@pytest.mark.parametrize(
    "config",
    [
        TuneConfig(),
        UNUSUAL,
        ALSO_UNUSUAL,
        with_setting(TuneConfig(negative_prompt="-x --y"), ["controls", "feature_layers"], ()),
        with_setting(defaults(None, None), ["controls", "replace_words"], False),
        with_setting(TuneConfig(model="sd"), ["tuning", "remat"], False),
        dataclasses.replace(defaults("sd", "adaflow"), model="sd"),
        defaults(None, "stream", "fast"),
    ],
    ids=["default", "unusual", "other", "empty", "switched off", "remat off", "adaflow", "stream"],
)
def test_round_trip(config):
    assert parsed(command_line(config)) == config


@pytest.mark.parametrize("run", [UNUSUAL, defaults(None, None)], ids=["unusual", "default"])
def test_an_edit_gives_what_is_not_as_in_its_run(run):
    like = EditCommand.like("runs/a b", run)
    assert edit_command_line(like, run) == ["runs/a b"]
    unusual = EditCommand.like("runs/a b", UNUSUAL)
    weights = dataclasses.replace(run.weights, lora=("d.pt",))
    for command in (
        dataclasses.replace(unusual, prompts=("a", "-b"), output="x", model="y"),
        dataclasses.replace(
            like, controls=dataclasses.replace(like.controls, mask=None, blend=(), replace_words=False)
        ),
        dataclasses.replace(like, editing=EditConfig(), negative_prompt="", weights=weights),
    ):
        words = edit_command_line(command, run)
        assert edit_parsed(words, run) == command, words


def test_a_preset_of_an_edit_stands_for_its_flags():
    run = defaults(None, None)
    fast = defaults(None, None, "fast")
    assert edit_command_line(EditCommand.like("r", fast), run) == ["r", "--preset", "fast"]


def test_what_no_flag_takes_away_is_refused():
    command = dataclasses.replace(EditCommand.like("r", UNUSUAL), weights=TuneConfig().weights)
    with pytest.raises(ValueError, match="no flag leaves out the lora"):
        edit_command_line(command, UNUSUAL)
