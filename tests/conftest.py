"""Shapes in the signatures are checked in every test: jaxtyping's import hook comes before the package."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

install_import_hook("vrwkv_jax", "beartype.beartype")

pytest_plugins = ["tests.small"]
