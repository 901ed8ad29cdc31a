"""What to say of a key that a YAML file has and the configuration has not."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from vrwkv_jax.config.foreign import translate
from vrwkv_jax.config.moved import Place
from vrwkv_jax.system.checks import nearest

_FLAG_NAMES = {"lr": "learning_rate", "edit_prompt": "edit_prompts"}  # flags that are not called as their key is


def take_unknown_keys(cls: type, data: dict[str, Any]) -> Iterator[tuple[Place, Any, str]]:
    """Remove the keys from ``data`` that ``cls`` does not have; yield the place, the value and a hint for each."""
    yield from _take(cls, cls, data)


def _take(whole: type, cls: type, data: dict[str, Any], *section: str) -> Iterator[tuple[Place, Any, str]]:
    """``take_unknown_keys`` in ``section`` of the configuration, which is of the type ``cls``."""
    hints = get_type_hints(cls)
    for key in [key for key in data if key not in hints]:
        yield from _explain(whole, (*section, key), data.pop(key))
    for name, hint in _sections(cls).items():
        if data.get(name, {}) is None:  # every line of the section is commented out
            del data[name]
        if isinstance(inner := data.get(name), dict):
            yield from _take(whole, hint, inner, *section, name)


def _sections(cls: type) -> dict[str, type]:
    hints = get_type_hints(cls).items()
    return {key: hint for key, hint in hints if isinstance(hint, type) and dataclasses.is_dataclass(hint)}


def _homes(cls: type, section: str = "") -> dict[str, str]:
    """The name of each setting and section -> its place."""
    homes = {key: section + key for key in get_type_hints(cls)}
    for key, hint in _sections(cls).items():
        homes |= _homes(hint, f"{section}{key}.")
    return homes


def _explain(cls: type, place: Place, value: Any) -> Iterator[tuple[Place, Any, str]]:
    if isinstance(value, dict) and any(translate(".".join((*place, key))) for key in value):
        for key, inner in value.items():
            yield from _explain(cls, (*place, key), inner)
    else:
        yield place, value, translate(".".join(place)) or _suggest(cls, place)


def _suggest(cls: type, place: Place) -> str:
    """Where the key belongs, or which key it is most likely a slip of, or else which keys there are."""
    settings = _homes(cls)
    here = "".join(f"{section}." for section in place[:-1])
    siblings = [key for key, home in settings.items() if home == here + key]
    name = place[-1].replace("-", "_").split(".")[-1]  # as a flag, or as a dotted path
    name = _FLAG_NAMES.get(name, name)
    guess = name if name in settings else nearest(name, siblings) or nearest(name, list(settings))
    if guess is None:
        return f"is not a setting: expected one of {', '.join(siblings or settings)}"
    home = settings[guess]
    if place[-1] in (guess, home):
        section = f"under `{home.rpartition('.')[0]}`" if "." in home else "at the top, outside every section"
        return f"is in the wrong place: `{guess}` belongs {section}"
    return f"is not a setting: did you mean `{home}`?"
