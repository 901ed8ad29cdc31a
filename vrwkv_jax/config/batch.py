"""A file of jobs, for ``python -m train.tune --batch``: each a run. Flags of the command are those of all of them."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import yaml

from vrwkv_jax.config.flags import all_at_home, at_home, parse_tune_config
from vrwkv_jax.config.schema import TuneConfig
from vrwkv_jax.config.yaml_file import from_mapping, merged
from vrwkv_jax.config.yaml_text import read_list, read_mapping
from vrwkv_jax.system.errors import UserError

NOT_SHARED = ("--output", "--resume", "--overwrite")


def batch_of(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file that ``--batch`` names, and the other words.

    Raises:
        UserError: among them is a flag that cannot be shared by several runs.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--batch", nargs="?")
    found, shared = finder.parse_known_args(list(argv))
    if found.batch is None:
        return None, list(argv)
    for word in shared:
        if word.partition("=")[0] in NOT_SHARED:
            raise UserError(
                f"{word.partition('=')[0]} is not for --batch: each job names its own output, and what is there is "
                "skipped, or resumed where it was stopped"
            )
    return at_home(found.batch), shared


def read_batch(path: str, shared: Sequence[str]) -> list[TuneConfig]:
    """The configurations of the jobs in the file ``path``: defaults, overridden by the flags ``shared``, overridden by
    the settings of each job, which stand in their sections or, as flags do, without.

    Raises:
        UserError: names every job with mistakes.
    """
    jobs, configs, mistakes = read_list(Path(path)), [], []
    for number, job in enumerate(jobs, start=1):
        name = f"{path}, job {number}"
        try:
            if not isinstance(job, dict):
                raise UserError(f"{name} is no mapping of settings: write `video: jeep.mp4` and so on")
            configs.append(_configuration(_in_sections(job), shared, name))
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return configs


def _configuration(job: dict[str, Any], shared: Sequence[str], name: str) -> TuneConfig:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")
    found, flags = finder.parse_known_args(list(shared))
    if found.config is not None:
        job = merged(read_mapping(Path(at_home(found.config))), job)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:  # its model settles the defaults
        settle = {name: job[name] for name in ("model", "long_video") if name in job}
        yaml.safe_dump({"prompt": None} | settle, file)
        file.flush()
        base = parse_tune_config([*flags, "--config", file.name])
    return all_at_home(from_mapping(TuneConfig, job, name, base))


def _in_sections(job: dict[str, Any]) -> dict[str, Any]:
    """Settings that stand outside of their sections, in them."""
    hints = get_type_hints(TuneConfig)
    homes = {
        field.name: section
        for section, kind in hints.items()
        if is_dataclass(kind)
        for field in fields(cast(Any, kind))
    }
    found: dict[str, Any] = {}
    for key, value in job.items():
        if key in homes and key not in hints:
            found.setdefault(homes[key], {})[key] = value
        elif isinstance(value, dict) and key in hints:
            found[key] = found.get(key, {}) | value
        else:
            found[key] = value
    return found
