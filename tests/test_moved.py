"""Modules that moved are still imported by their old names, with a warning."""

import importlib
import sys

import pytest

from vrwkv_jax.config import ControlConfig, VideoConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_old_names(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved: import {new}") as warned:
        module = importlib.import_module(old)
    assert len(warned) == 1
    now = importlib.import_module(new)
    names = [name for name in vars(now) if not name.startswith("_")]
    assert names and all(getattr(module, name) is getattr(now, name) for name in names)


def test_names_in_them():
    sys.modules.pop("vrwkv_jax.errors", None)
    with pytest.warns(DeprecationWarning):
        from vrwkv_jax.errors import UserError
    from vrwkv_jax.system.errors import UserError as Now

    assert UserError is Now


def test_old_names_of_settings():
    with pytest.warns(
        DeprecationWarning, match=r"VideoConfig: the setting token_order is now vrwkv.token_order"
    ) as warned:
        video = VideoConfig(token_order="joint", init="local", attention="extended")
    assert len(warned) == 2
    assert video == VideoConfig(vrwkv=VRWKVConfig(token_order="joint", init="local"), attention="extended")
    with pytest.warns(DeprecationWarning, match="ControlConfig: the setting mixers is now mixer_keys"):
        assert ControlConfig(mixers=0.5) == ControlConfig(mixer_keys=0.5)
    with pytest.raises(TypeError, match="mixerz"):
        ControlConfig(mixerz=0.5)
