"""``python -m train.tune``: tune on one clip, invert it, edit it; the same as ``vrwkv tune``."""

import sys

from vrwkv_jax.commands.cli import run_module

if __name__ == "__main__":
    sys.exit(run_module("vrwkv_jax.commands.tune"))
