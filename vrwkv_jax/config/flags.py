"""Command lines: what ``python -m train.tune`` and ``python -m vrwkv_jax.edit`` are called with."""

import argparse
import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

import tyro

from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.config.editing import DEFAULT_PRESET, PRESETS, PresetName
from vrwkv_jax.config.moved import RENAMED_FLAGS, move
from vrwkv_jax.config.schema import SMALL, EditCommand, TuneConfig, defaults_of_long, flag_of, with_preset
from vrwkv_jax.config.unused import warn_of_unused
from vrwkv_jax.config.yaml_file import from_mapping
from vrwkv_jax.config.yaml_text import read_mapping
from vrwkv_jax.system.checks import FieldErrors, checks_postponed, default_shown
from vrwkv_jax.system.errors import UserError, settings_spelled

Command = TypeVar("Command")


@contextmanager
def messages_name_flags() -> Iterator[None]:
    """In this block errors and warnings call settings by their flags: a command runs."""
    with settings_spelled(flag_of):
        yield


Preset = Annotated[
    PresetName | None, tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}", help_behavior_hint=default_shown)
]


@dataclass(frozen=True)
class _TuneCommand:
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=default_shown)]
    """YAML file of settings, nested by the sections below. Flags override it."""
    batch: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=default_shown)]
    """YAML list of jobs, run one after another: each the settings of a run, which override the flags here. What is
    finished is skipped, what was stopped goes on."""
    preset: Preset
    """What edits may cost, in the place of the file's settings for it. Not set: those, or balanced."""
    tune: Annotated[TuneConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class _EditCommand:
    preset: Preset = None
    """What the edit may cost. Not set: as the run was configured."""
    edit: Annotated[EditCommand, tyro.conf.arg(name="")]


def parse_tune_config(argv: Sequence[str], unfinished: Callable[[str], TuneConfig] | None = None) -> TuneConfig:
    """The configuration of a run: defaults, overridden by the YAML file of ``--config``, overridden by flags.

    The defaults are those of ``SMALL`` where neither names a model, at the cost of the default preset; with
    ``--resume --output RUN``, ``unfinished(RUN)``. A ``--preset`` stands for the flags that it is made of.

    Raises ``UserError`` for a file with mistakes and for flags with values that are not allowed. Unknown flags and
    values of the wrong type end the program with status 2 and a message, as ``--help`` ends it with status 0.
    """
    argv = _by_present_names(argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")  # that its value is missing is for tyro to say
    finder.add_argument("--model", nargs="?")
    finder.add_argument("--output", nargs="?")
    finder.add_argument("--long", nargs="?")
    finder.add_argument("--preset", nargs="?")
    finder.add_argument("--resume", action="store_true")
    path, model, output, long, preset, resume = vars(finder.parse_known_args(argv)[0]).values()
    path = path and at_home(path)
    file = None if path is None else read_mapping(Path(path))  # once: it may be a pipe of the shell
    if file is not None and model is None:
        model = file.get("model")
        long = long or file.get("long_video", {}).get("long")
    costing = {"is_small": model is None, "is_long": long is not None}
    base = defaults(model, long)
    if resume and output is not None and unfinished is not None:
        base = unfinished(at_home(output))
        costing = costing_of(base)
    if file is not None:
        for old, new in move(file):
            warnings.warn(f"{path}: `{old}` is now `{new}`: write it there", stacklevel=2)
        base = from_mapping(TuneConfig, file, str(path), base)
    if preset in PRESETS:
        base = with_preset(base, preset, **costing)
    # What is given several times replaces what a file has; tyro would append to a default.
    default = _TuneCommand(path, None, None, replace(base, edit_prompts=(), weights=_without_lists(base.weights)))
    description = TuneConfig.__doc__
    config = parse_flags(_TuneCommand, argv, prog="python -m train.tune", default=default, description=description).tune
    warn_of_unused(config, base)
    return all_at_home(
        replace(
            config,
            edit_prompts=config.edit_prompts or base.edit_prompts,
            weights=_with_lists(config.weights, base.weights),
        )
    )


def all_at_home(config: TuneConfig) -> TuneConfig:
    """``config`` with ``at_home`` of its paths."""
    return replace(
        config,
        model=at_home(config.model),
        output=at_home(config.output, is_new=True),
        clip=replace(config.clip, video=at_home(config.clip.video)),
        controls=replace(config.controls, mask=at_home(config.controls.mask)),
    )


def parse_edit_command(argv: Sequence[str], configuration: Callable[[str], TuneConfig]) -> EditCommand:
    """What to edit, and how; mistakes are as those of ``parse_tune_config``.

    ``configuration`` gives that of a run, by its directory: the defaults of the flags.
    """
    program = "python -m vrwkv_jax.edit"
    argv = _by_present_names(argv)
    found = parse_flags(_EditCommand, argv, prog=program)
    run = at_home(found.edit.run)
    config = configuration(run)
    if found.preset is not None:
        config = with_preset(config, found.preset, **costing_of(config))
    like = EditCommand.like(run, config)
    default = replace(like, weights=_without_lists(like.weights))
    of_run = _EditCommand(preset=found.preset, edit=default)
    command = parse_flags(_EditCommand, argv, prog=program, default=of_run).edit
    warn_of_unused(command, default)
    return replace(
        command,
        run=run,
        model=at_home(command.model),
        output=at_home(command.output, is_new=True),
        weights=_with_lists(command.weights, like.weights),
        controls=replace(command.controls, mask=at_home(command.controls.mask)),
    )


def defaults(model: str | None, long: str | None, preset: str = DEFAULT_PRESET) -> TuneConfig:
    """What a run of ``model`` is configured by where neither a file nor other flags say more."""
    base = with_preset(
        SMALL if model is None else TuneConfig(), preset, is_small=model is None, is_long=long is not None
    )
    return base if long is None else defaults_of_long(base, long)


def costing_of(config: TuneConfig) -> dict[str, bool]:
    """What a preset depends on, of a run's configuration."""
    return {"is_small": config.model is None, "is_long": config.long_video.long is not None}


def _without_lists(weights: WeightsConfig) -> WeightsConfig:
    return replace(weights, lora=(), embedding=())


def _with_lists(weights: WeightsConfig, before: WeightsConfig) -> WeightsConfig:
    """``weights`` with the lists of ``before`` where it has none."""
    return replace(weights, lora=weights.lora or before.lora, embedding=weights.embedding or before.embedding)


@overload
def at_home(path: str, is_new: bool = False) -> str: ...
@overload
def at_home(path: None, is_new: bool = False) -> None: ...
def at_home(path: str | None, is_new: bool = False) -> str | None:
    """``path`` with the home directory in the place of "~", which shells leave as it is in ``--output=~/x``.

    Raises:
        UserError: it ``is_new``, to be made, and "~" stands for nobody's home, or it begins with a variable of the
            shell, which no shell has seen in a file or between single quotes.
    """
    found = path and os.path.expanduser(path)
    first = (found or "").split(os.sep)[0]
    if is_new and re.fullmatch(r"\$(\w+|{\w+})", first) and not os.path.lexists(first):
        raise UserError(
            f"--output {found} begins with {first}, whose value is not looked up here: write its value, or ./{found} "
            "if you mean it"
        )
    if found and is_new and found.startswith("~") and not os.path.lexists(found):
        raise UserError(
            f"--output {found} begins with ~, and is nobody's home directory: write ./{found} if you mean it"
        )
    return found


def _by_present_names(argv: Sequence[str]) -> list[str]:
    """``argv`` with flags of an earlier version called as they are now, each with a warning."""
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag in RENAMED_FLAGS:
            warnings.warn(f"{flag} is now {RENAMED_FLAGS[flag]}: write that", stacklevel=3)
            flag = RENAMED_FLAGS[flag]
        words.append(flag + equals + value)
    return words


def _spelled_out(argv: Sequence[str]) -> list[str]:
    """``argv`` with a value behind every --remat, which may be given like a flag that has none."""
    words = ["--remat=false" if word == "--no-remat" else word for word in argv]
    return [
        "--remat=true" if word == "--remat" and (following is None or following.startswith("-")) else word
        for word, following in itertools.zip_longest(words, words[1:])
    ]


def parse_flags(cls: type[Command], argv: Sequence[str], **options: Any) -> Command:
    """What ``argv`` says of ``cls``, whose sections have no prefixes; ``options`` are tyro's.

    Raises:
        UserError: values are not allowed; all are named, by their flags.
    """
    with checks_postponed() as problems:
        # Without prefixes: --video, not --clip.video.
        command: Command = tyro.cli(cls, args=_spelled_out(argv), config=(tyro.conf.OmitArgPrefixes,), **options)
    if problems:
        raise FieldErrors({flag_of(name): found for name, found in problems.items()})
    return command
