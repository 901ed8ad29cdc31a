"""``python -m vrwkv_jax.studio``: a page to tune and edit on; the same as ``vrwkv studio``."""

import sys

from vrwkv_jax.commands.cli import run_module

if __name__ == "__main__":
    sys.exit(run_module("vrwkv_jax.commands.studio"))
