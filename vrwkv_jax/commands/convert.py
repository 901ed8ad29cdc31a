"""``vrwkv convert SRC DST``, or ``python -m convert``: a Stable Diffusion checkpoint, converted or looked at."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, get_args

import tyro

from vrwkv_jax.checkpoint.conversion import Stored, Target, convert
from vrwkv_jax.checkpoint.inspection import inspect
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import messages_name_flags, parse_flags
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs.export import export, is_run
from vrwkv_jax.system.checks import default_shown
from vrwkv_jax.system.errors import UserError, printable

TARGETS: dict[str, Target] = {"to-diffusers": "diffusers"}
"""First words of the command line -> the form that is written."""


@dataclass(frozen=True)
class Conversion:
    """Convert a Stable Diffusion 1.x or 2.x checkpoint to the format of this package (Orbax).

    Other uses: "to-diffusers SRC DST" writes a checkpoint or a finished run in the diffusers layout; "inspect SRC" says
    what is there.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A checkpoint: a directory in the diffusers layout, a single file, or a Hugging Face id owner/name."""
    destination: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    """Directory to write: a new one, an empty one, or with --overwrite one that holds a checkpoint."""
    dtype: Annotated[
        Stored | None,
        tyro.conf.arg(metavar=f"{{{','.join(get_args(Stored))}}}", help_behavior_hint=default_shown),
    ] = None
    """What the weights are stored in. Not set: what they are in now."""
    overwrite: bool = False
    """Replace a checkpoint that is in DST."""
    weights: WeightsConfig = field(default_factory=WeightsConfig)


@dataclass(frozen=True)
class Inspection:
    """Say what a checkpoint is, what it holds, and whether it can be used here, without loading it."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A checkpoint, or any file that may be one: a path, or a Hugging Face id owner/name."""
    weights: WeightsConfig = field(default_factory=WeightsConfig)


@messages_name_flags()
def main(argv: Sequence[str] | None = None) -> None:
    program, argv = "python -m convert", list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["inspect"]:
        inspection = parse_flags(Inspection, argv[1:], prog=f"{program} inspect")
        lines, is_usable = inspect(inspection.source, inspection.weights)
        print("\n".join(map(printable, lines)))
        sys.exit(0 if is_usable else 1)
    target = TARGETS.get(argv[0]) if argv else None
    if target is not None:
        program, argv = f"{program} {argv[0]}", argv[1:]
    conversion = parse_flags(Conversion, argv, prog=program)
    check_devices()
    print(printable(_write(conversion, target or "converted")))


def _write(conversion: Conversion, to: Target) -> str:
    source, destination, overwrite = conversion.source, conversion.destination, conversion.overwrite
    if to == "converted" or not is_run(source):
        return convert(
            source,
            destination,
            conversion.dtype,
            to=to,
            weights=conversion.weights,
            overwrite=overwrite,
            reporter=TERMINAL,
        )
    if conversion != Conversion(source, destination, overwrite=overwrite):
        raise UserError(f"{source} is a run, whose weights are written as they are: give no flags but --overwrite")
    return export(source, destination, overwrite=overwrite, reporter=TERMINAL)
