"""YAML as people write it: YAML 1.2's plain values, one value per key, a line number with every mistake."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vrwkv_jax.system.errors import UserError, quoted

KINDS: dict[type, str] = {str: "text", list: "a list"}
HINTS = {  # PyYAML's complaint -> what to do
    "mapping values are not allowed here": "put text that has a colon in it in quotes",
    "found character '\\t' that cannot start any token": "indent with spaces, not with a tab",
}
LARGEST, DEPTH = 2**20, 20  # bytes, and levels of nesting: settings have three
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN_VALUES = {
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (re.compile(r"[-+]?(0|[1-9]\d*)"), list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
}


class Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where 3e-5 and 010 and no and 12:30 are text, 8, False and 750."""

    depth = 0
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - none of its own; the base class declares it as an instance variable

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A file of a kilobyte could be gigabytes, where it names a part of it and repeats that."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # left open by types-PyYAML
        if getattr(event, "anchor", None) is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            problem = f"`{sign}{quoted(event.anchor, plain=True)}` repeats a part of the file: write it out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.composer.ComposerError(None, None, "settings are nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A later value for the same key would silently win."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{quoted(key.value, plain=True)}` is given twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Quotes the text that either version of YAML would take for something else."""


for _kind, (_pattern, _first) in _PLAIN_VALUES.items():
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, _first)
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, _first)


def read_mapping(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, as nested dicts with string keys; ``UserError`` where there are none."""
    data = _read(path)
    if not isinstance(data, dict):
        found = "no setting" if data is None else f"{KINDS.get(type(data), 'a value')} instead of settings"
        raise UserError(f"{path} holds {found}: write `key: value` lines, such as `seed: 33`")
    return data


def read_list(path: Path) -> list[Any]:
    """The items of a list in a YAML file, as ``read_mapping``; ``UserError`` where there is none."""
    data = _read(path)
    if not isinstance(data, list) or not data:
        raise UserError(f"{path} holds no list: begin each item with `- `, such as `- video: jeep.mp4`")
    return data


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # which may be a pipe of the shell
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{path} has more than {LARGEST // 1024} KiB: give a YAML file of settings")
        data = yaml.load(content.decode("utf-8"), Loader=Loader)
        return json.loads(json.dumps(data))  # every key a string, no object in two places
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the path of a YAML file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give the path of a YAML file") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = error.problem or error.context or ""
        hint = f"; {HINTS[reason]}" if reason in HINTS else ""
        raise UserError(f"{path}{line} cannot be read as YAML: {_cut(reason)}{hint}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a YAML file of plain settings: {_cut(str(error).splitlines()[0])}") from None


def _cut(reason: str | None) -> str:
    """What the parser says, which may quote the file."""
    return (reason or "")[:200]
