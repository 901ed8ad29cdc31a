"""Reads a model's ``config.json`` into the frozen dataclass that describes what this package can build."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vrwkv_jax.system.errors import UserError, quoted

T = TypeVar("T")


def from_json(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """The dataclass ``cls`` from the keys of ``values`` it has; absent ones keep their default, others are ignored.

    The annotations say what is supported: ``int``, ``float``, ``bool``, ``str``, ``None``, ``Literal[...]``, unions of
    these, and ``tuple[x, ...]``, which takes a JSON list. A key whose other values would change the maths belongs into
    ``cls`` as a field with the one value that is supported, so that a checkpoint that asks for more is refused.

    Raises:
        UserError: a value is not supported; names ``where`` (such as ``"unet/config.json"``), the key and the value.
    """
    hints = get_type_hints(cls)
    known = {field.name: values[field.name] for field in fields(cls) if field.name in values}  # type: ignore[arg-type]
    for key, value in known.items():
        if not _accepts(hints[key], value):
            shown = quoted(json.dumps(value), plain=True)
            raise UserError(f"{where}: {key} is {shown}, which is not supported; expected {_describe(hints[key])}")
    return cls(**{key: _as(hints[key], value) for key, value in known.items()})


def _as(hint: Any, value: Any) -> Any:
    """What JSON writes as a list or as a whole number, as what it stands for."""
    if isinstance(value, list):
        return tuple(value)
    is_float = hint is float or float in get_args(hint)
    return float(value) if is_float and type(value) is int else value


def _accepts(hint: Any, value: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_accepts(part, value) for part in get_args(hint))
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_accepts(get_args(hint)[0], part) for part in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint  # not isinstance: True is no int here


def _describe(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, get_args(hint)))
    if origin is Literal:
        return " or ".join(map(json.dumps, get_args(hint)))
    if origin is tuple:
        return f"a list of {_describe(get_args(hint)[0])}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a string"}.get(hint, "null")
