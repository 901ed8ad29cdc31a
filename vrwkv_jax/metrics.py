"""``python -m vrwkv_jax.metrics``: measure edited clips against their source; the same as ``vrwkv metrics``."""

import sys

from vrwkv_jax.commands.cli import run_module

if __name__ == "__main__":
    sys.exit(run_module("vrwkv_jax.commands.metrics"))
