"""Configurations in YAML files, nested by section; every mistake of a file is reported at once."""

import dataclasses
import functools
import json
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from vrwkv_jax.config.moved import Place, move
from vrwkv_jax.config.unknown_keys import take_unknown_keys
from vrwkv_jax.config.yaml_text import Dumper, read_mapping
from vrwkv_jax.media.files import replacing
from vrwkv_jax.system.checks import FieldErrors, nearest
from vrwkv_jax.system.errors import UserError, quoted

Config = TypeVar("Config")

MOST = 50  # mistakes that are listed
_COMPLAINTS = {
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "string_type": "is not text (put it in quotes)",
    "tuple_type": "is not a list (put it in [ ])",
    "dataclass_type": "is not a section of `key: value` lines",
}
"""Pydantic's type of an error -> what is wrong with the value."""


def load_yaml(cls: type[Config], path: str | Path, defaults: Config | None = None) -> Config:
    """The configuration in a YAML file; what the file leaves out is as in ``defaults`` (by default ``cls()``).

    What an earlier version wrote is read as well.

    Raises ``UserError`` that lists every mistake of the file: unknown keys, wrong types, values that are not allowed.
    """
    data = read_mapping(Path(path))
    move(data)
    return from_mapping(cls, data, str(path), defaults)


def from_mapping(cls: type[Config], data: dict[str, Any], source: str, defaults: Config | None = None) -> Config:
    """``load_yaml`` of what has been read from ``source`` already, and stands where it belongs now."""
    mistakes = [*take_unknown_keys(cls, data), *_take_python_words(cls, data)]
    if defaults is not None:
        data = merged(dataclasses.asdict(cast(Any, defaults)), data)
    adapter = TypeAdapter(cls)
    while True:
        try:
            # From JSON, strict means: no `true` for 1 and no "8" for 8, but a list for a tuple.
            config = adapter.validate_json(json.dumps(data), strict=True)
            break
        except ValidationError as error:
            # A value of the wrong type keeps the rest of its section from being checked: look again without it.
            found = _mistakes(error, data)
            mistakes += [(place, value, complaint) for place, (value, complaint) in found.items()]
            if not any([_remove(data, place) for place in found]):
                break
    if mistakes:
        raise UserError(_report(source, mistakes))
    return config


def save_yaml(config: Any, path: str | Path) -> None:
    """Write every setting of a configuration; ``load_yaml`` reads an equal one.

    Raises:
        UserError: as ``replacing``; what was at ``path`` before is as it was.
    """
    lines = yaml.dump(dataclasses.asdict(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    with replacing(path) as part:
        part.write_text(lines, encoding="utf-8")


def _take_python_words(cls: type, data: dict[str, Any], *section: str) -> Iterator[tuple[Place, Any, str]]:
    """Removes "None" where a setting may be left unset, which would else be the name of a file, or a prompt."""
    for key, hint in get_type_hints(cls).items():
        if isinstance(inner := data.get(key), dict) and dataclasses.is_dataclass(hint):
            yield from _take_python_words(cast(type, hint), inner, *section, key)
        elif inner == "None" and type(None) in get_args(hint):
            yield (*section, key), data.pop(key), "is Python's word for a setting that is not set: write null"


def merged(defaults: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """``data`` over ``defaults``, section by section."""
    sections = {
        key: merged(value, data[key])
        for key, value in defaults.items()
        if isinstance(value, dict) and isinstance(data.get(key), dict)
    }
    return defaults | data | sections


def _mistakes(error: ValidationError, data: dict[str, Any]) -> dict[Place, tuple[Any, str]]:
    """Place -> the value there and what is wrong with it."""
    found: dict[Place, tuple[Any, str]] = {}
    for detail in error.errors():
        place = _place(detail["loc"], data)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, FieldErrors):
            found |= {(*place, name): problem for name, problem in cause.problems.items()}
            continue
        complaint = _COMPLAINTS.get(detail["type"], detail["msg"])
        if detail["type"] == "literal_error":
            complaint = _choices(detail["ctx"]["expected"], detail["input"])
        value = _at(place, data)
        if isinstance(value, list):  # the mistake is in one item
            complaint = f"is wrong: {quoted(json.dumps(detail['input']), plain=True)} {complaint}"
        if place in found:  # the next branch of a union, or the next item of a list
            complaint = f"{complaint}, and {found[place][1]}"
        found[place] = (value, complaint)
    return found


def _place(location: tuple[int | str, ...], data: dict[str, Any]) -> Place:
    """The part of pydantic's location that leads through sections: not list positions and branches of a union."""
    place: list[str] = []
    value: Any = data
    for key in location:
        if not isinstance(value, dict) or key not in value:
            break
        place.append(str(key))
        value = value[key]
    return tuple(place)


def _at(place: Place, data: dict[str, Any]) -> Any:
    return functools.reduce(operator.getitem, place, data)


def _choices(expected: str, value: Any) -> str:
    choices = re.findall(r"'([^']*)'", expected)
    guess = nearest(value, choices) if isinstance(value, str) else None
    return f"is not one of {', '.join(choices)}" + (f": did you mean {guess}?" if guess else "")


def _remove(data: dict[str, Any], place: Place) -> bool:
    """Whether there was something to remove."""
    section = _at(place[:-1], data)
    return bool(place) and section.pop(place[-1], section) is not section


def _report(source: str, mistakes: list[tuple[Place, Any, str]]) -> str:
    lines = []
    for place, value, complaint in mistakes:
        shown = json.dumps(value, ensure_ascii=False)
        shown = "" if isinstance(value, dict) else f"{quoted(shown, plain=True)} "
        lines.append(f"`{quoted('.'.join(place), plain=True)}` {shown}{complaint}")
    if len(lines) > MOST:
        lines[MOST:] = [f"and {len(lines) - MOST} more"]
    if len(lines) == 1:
        return f"{source}: {lines[0]}"
    return f"{source} has {len(mistakes)} mistakes:" + "".join(f"\n  {line}" for line in lines)
