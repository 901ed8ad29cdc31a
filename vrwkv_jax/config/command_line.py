"""From a configuration back to the command line that makes it, of which it gives what is not the default."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from vrwkv_jax.config.editing import PRESETS
from vrwkv_jax.config.flags import costing_of, defaults
from vrwkv_jax.config.schema import EditCommand, TuneConfig, flag_of, with_preset

REPEATED = ("edit_prompts", "prompts", "lora", "embedding")
"""Settings whose flag is given once for each value."""


def command_line(config: TuneConfig) -> list[str]:
    """The arguments of ``vrwkv tune`` that stand for ``config``: ``parse_tune_config`` makes an equal one of them.

    They are as few as can be: a ``--preset`` comes first where its cost is nearer than that of the default one. What
    changes nothing beside the rest is given, too. ``line_in_shell`` makes a line to paste of them.
    """
    given = _given(config, defaults(config.model, config.long_video.long))
    for preset in PRESETS:
        others = _given(config, defaults(config.model, config.long_video.long, preset))
        given = min(given, ["--preset", preset, *others], key=len)
    return given


def edit_command_line(command: EditCommand, run: TuneConfig) -> list[str]:
    """The arguments of ``vrwkv edit`` that stand for ``command``, where its run was configured as ``run``.

    Raises:
        ValueError: no flag leaves out a LoRA or a word that the run has.
    """
    bare = [name for name in ("lora", "embedding") if getattr(run.weights, name) and not getattr(command.weights, name)]
    if bare:
        raise ValueError(f"no flag leaves out the {bare[0]} of the run")
    given = _given(command, EditCommand.like(command.run, run))
    for preset in PRESETS:
        like = EditCommand.like(command.run, with_preset(run, preset, **costing_of(run)))
        given = min(given, ["--preset", preset, *_given(command, like)], key=len)
    return [command.run, *given]


def _given(config: Any, base: Any) -> list[str]:
    """The flags of all settings of ``config`` that are not as in ``base``, section by section."""
    words: list[str] = []
    for field in fields(config):
        value, default = getattr(config, field.name), getattr(base, field.name)
        if is_dataclass(value):
            words += _given(value, default)
        elif field.name == "model" or value != default:  # the defaults are those of the model
            words += _flag(field.name, value)
    return words


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = flag_of(name)
    if name == "model" and value is None:
        return
    if isinstance(value, bool) and name != "remat":
        yield flag if value else f"--no-{flag.removeprefix('--')}"
    elif name in REPEATED:
        for item in value:
            yield from _with_value(flag, item)
    elif isinstance(value, tuple):
        yield from (flag, *map(str, value))
    else:
        yield from _with_value(flag, str(value).lower() if name == "remat" else str(value))


def _with_value(flag: str, value: str) -> tuple[str, ...]:
    """One word where the value would be taken for a flag."""
    return (f"{flag}={value}",) if value.startswith("-") else (flag, value)
