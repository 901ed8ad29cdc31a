"""``config.json`` to dataclass."""

import re
from dataclasses import dataclass
from typing import Literal

import pytest

from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.system.errors import UserError


@dataclass(frozen=True)
class Config:
    width: int = 8
    heads: int | tuple[int, ...] = 2
    scale: float | None = None
    linear: bool = False
    name: str = "a"
    activation: Literal["silu", "swish"] = "silu"
    class_embedding: None = None


def test_takes_known_keys_and_leaves_the_rest():
    values = {"heads": [4, 8], "scale": 1, "linear": True, "activation": "swish", "class_embedding": None, "_extra": 3}
    assert from_json(Config, values, "x.json") == Config(heads=(4, 8), scale=1, linear=True, activation="swish")
    assert hash(from_json(Config, values, "x.json"))  # a graph definition has to be hashable


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("width", "8", 'width is "8", which is not supported; expected an integer'),
        ("width", None, "width is null, which is not supported; expected an integer"),
        ("width", True, "width is true, which is not supported; expected an integer"),
        ("width", 8.5, "width is 8.5, which is not supported; expected an integer"),
        ("heads", [4, "8"], 'heads is [4, "8"], which is not supported; expected an integer or a list of an integer'),
        ("scale", "big", 'scale is "big", which is not supported; expected a number or null'),
        ("linear", 1, "linear is 1, which is not supported; expected true or false"),
        ("name", 1, "name is 1, which is not supported; expected a string"),
        ("activation", "relu", 'activation is "relu", which is not supported; expected "silu" or "swish"'),
        ("class_embedding", "timestep", 'class_embedding is "timestep", which is not supported; expected null'),
    ],
)
def test_refuses_what_is_not_supported(key, value, message):
    with pytest.raises(UserError, match=re.escape(f"unet/config.json: {message}")):
        from_json(Config, {key: value}, "unet/config.json")
