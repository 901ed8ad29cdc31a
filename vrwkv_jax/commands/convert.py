"""``vrwkv convert SRC DST``, or ``python -m convert``: a Stable Diffusion checkpoint, converted."""

from typing import Annotated, get_args

import tyro

from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.system.checks import default_shown
from vrwkv_jax.system.choices import Precision
from vrwkv_jax.system.errors import printable


def main() -> None:
    tyro.cli(command, prog="python -m convert")


def command(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    destination: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DST")],
    dtype: Annotated[
        Precision | None,
        tyro.conf.arg(metavar=f"{{{','.join(get_args(Precision))}}}", help_behavior_hint=default_shown),
    ] = None,
) -> None:
    """Convert a Stable Diffusion 1.x or 2.x checkpoint to the format of this package (Orbax).

    Args:
        source: Directory in the diffusers layout, with safetensors; or a Hugging Face id owner/name.
        destination: Directory to write, which must not exist.
        dtype: What the weights are stored in. Not set: what they are in now.
    """
    check_devices()
    print(printable(convert(source, destination, dtype, reporter=TERMINAL)))
