"""What moved in 0.2, modules and settings: old names work until 0.3, with a warning that names the new place."""

import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Config = TypeVar("Config")

MOVED = {
    "vrwkv_jax.about": "vrwkv_jax.system.about",
    "vrwkv_jax.checks": "vrwkv_jax.system.checks",
    "vrwkv_jax.compiled": "vrwkv_jax.system.compiled",
    "vrwkv_jax.diffusion.ddim": "vrwkv_jax.diffusion.samplers.ddim",
    "vrwkv_jax.diffusion.dpm_solver": "vrwkv_jax.diffusion.samplers.dpm_solver",
    "vrwkv_jax.editing.pipeline": "vrwkv_jax.editing.editor",
    "vrwkv_jax.errors": "vrwkv_jax.system.errors",
    "vrwkv_jax.interruption": "vrwkv_jax.system.interruption",
    "vrwkv_jax.kept": "vrwkv_jax.runs.kept",
    "vrwkv_jax.lock": "vrwkv_jax.runs.lock",
    "vrwkv_jax.memory": "vrwkv_jax.system.device_memory",
    "vrwkv_jax.models.config": "vrwkv_jax.models.json_config",
    "vrwkv_jax.models.mixers.config": "vrwkv_jax.models.video_config",
    "vrwkv_jax.results": "vrwkv_jax.runs.results",
    "vrwkv_jax.run": "vrwkv_jax.runs.run",
}


class _OldNames(MetaPathFinder, Loader):
    """Asked where Python has found no such module."""

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        now = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} has moved: import {now}", DeprecationWarning, stacklevel=2)
        module.__getattr__ = partial(getattr, importlib.import_module(now))  # type: ignore[method-assign]


def keep_old_names() -> None:
    """Lets the old names be imported."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())


def old_settings(**now: str) -> Callable[[type[Config]], type[Config]]:
    """A decorator of a dataclass, which can then be made with settings by their old names, with a warning.

    Each is given as ``old="new"``, or as ``old="section.new"`` where it stands in a section now.
    """

    def decorated(config: type[Config]) -> type[Config]:
        made = config.__init__

        @wraps(made)
        def made_from_old(self: Config, *values: Any, **settings: Any) -> None:
            for old in [name for name in settings if name in now]:
                section, _, name = now[old].rpartition(".")
                value = settings.pop(old)
                if section:
                    before = settings.get(section) or config.__dataclass_fields__[section].default_factory()  # type: ignore[attr-defined]
                    name, value = section, replace(before, **{name: value})
                settings[name] = value
                what = f"{config.__name__}: the setting {old} is now {now[old]}"
                warnings.warn(what, DeprecationWarning, stacklevel=2)
            made(self, *values, **settings)

        config.__init__ = made_from_old  # type: ignore[assignment]
        return config

    return decorated
