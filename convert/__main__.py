"""``python -m convert``: a Stable Diffusion checkpoint, converted; the same as ``vrwkv convert``."""

import sys

from vrwkv_jax.commands.cli import run_module

if __name__ == "__main__":
    sys.exit(run_module("vrwkv_jax.commands.convert"))
