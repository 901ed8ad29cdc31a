"""YAML as people write it: YAML 1.2's plain values, one value per key, a line number with every mistake."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vrwkv_jax.errors import UserError

_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN_VALUES = {
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (re.compile(r"[-+]?(0|[1-9]\d*)"), list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
}


class Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where 3e-5 and 010 and no and 12:30 are text, 8, False and 750."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - none of its own; the base class declares it as an instance variable

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A later value for the same key would silently win."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice", key.start_mark)
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
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
        data = json.loads(json.dumps(data))  # every key a string, no object in two places
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the path of a YAML file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give the path of a YAML file") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line} cannot be read as YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a YAML file of plain settings: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        found = "no setting" if data is None else f"a {type(data).__name__} instead of settings"
        raise UserError(f"{path} holds {found}: write `key: value` lines, such as `seed: 33`")
    return data
