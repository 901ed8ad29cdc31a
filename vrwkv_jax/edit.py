"""``python -m vrwkv_jax.edit``: edit the clip of a finished run again, without tuning; the same as ``vrwkv edit``."""

import sys

from vrwkv_jax.commands.cli import run_module

if __name__ == "__main__":
    sys.exit(run_module("vrwkv_jax.commands.edit"))
