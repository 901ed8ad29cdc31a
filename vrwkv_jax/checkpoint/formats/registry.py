"""The list of forms in which checkpoints are read, and which of them a part of a checkpoint has."""

from pathlib import Path

from vrwkv_jax.checkpoint.formats import compvis, converted, diffusers
from vrwkv_jax.checkpoint.formats.base import PARTS, Format
from vrwkv_jax.system.errors import UserError

FORMATS: dict[str, Format] = {"diffusers": diffusers, "compvis": compvis, "converted": converted}


def format_of(checkpoint: Path, part: str) -> Format:
    """The form of ``part``, which may differ from part to part; UserError where no form has it."""
    for form in FORMATS.values():
        if form.recognises(checkpoint, part):
            return form
    raise UserError(f"{checkpoint} has no {part} in a form that is read; expected {expected()}")


def missing(checkpoint: Path) -> list[str]:
    """The parts of ``checkpoint`` that are there in no form."""
    return [part for part in PARTS if not any(form.recognises(checkpoint, part) for form in FORMATS.values())]


def expected() -> str:
    """What all forms are called, for errors."""
    return ", or ".join(form.TITLE for form in FORMATS.values())
