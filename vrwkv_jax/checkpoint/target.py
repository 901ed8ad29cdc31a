"""The directory that a checkpoint is written to: new, or in the place of another checkpoint and of nothing else."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.formats.registry import missing
from vrwkv_jax.checkpoint.mixers import DIRECTORY
from vrwkv_jax.checkpoint.model_files import OPTIONAL_FILES, REQUIRED_FILES
from vrwkv_jax.media.new_directory import new_directory
from vrwkv_jax.system.errors import UserError, setting

CARD = "README.md"
_WEIGHTS = r"(diffusion_pytorch_)?model\.safetensors"
_WRITTEN = re.compile(
    "|".join(
        (
            *map(re.escape, (*REQUIRED_FILES, *OPTIONAL_FILES)),
            rf"(unet|vae|text_encoder)/({_WEIGHTS}|{native.DIRECTORY}/.+)",
            rf"{DIRECTORY}/(config\.json|{_WEIGHTS})",
        )
    )
)
SHOWN = 3  # files in an error


@contextmanager
def new_checkpoint(destination: Path, *, overwrite: bool) -> Iterator[Path]:
    """``new_directory``; with ``overwrite`` also where a checkpoint is, which goes when the new one is whole.

    Raises:
        UserError: as ``new_directory``; or a checkpoint is there and is not to be replaced, or other files are with it.
    """
    is_checkpoint = destination.is_dir() and not missing(destination)
    if is_checkpoint and not overwrite:
        raise UserError(
            f"{destination} holds a checkpoint already: name another directory, or replace it with "
            f"{setting('overwrite', True)}"
        )
    if is_checkpoint and (others := _others(destination)):
        shown = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
        raise UserError(
            f"{destination} holds more than what is written here ({shown}): move that away, or name another directory"
        )
    with new_directory(destination, replaces=lambda path: is_checkpoint) as part:
        yield part


def check_apart(destination: Path, inputs: Iterable[Path]) -> None:
    """Raises UserError where ``destination`` is to be made in one of the ``inputs``, or one of them lies in it."""
    target = Path(os.path.realpath(destination))
    for path in inputs:
        source = Path(os.path.realpath(path))
        if source != target and target.is_relative_to(source):
            raise UserError(f"{destination} lies in {path}, which is read: name a directory outside of it")
        if source != target and source.is_relative_to(target):
            raise UserError(f"{path}, which is read, lies in {destination}: name another directory")


def _others(directory: Path) -> list[str]:
    """The files in a checkpoint that are none that is written here."""
    files = (path.relative_to(directory) for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    names = sorted(str(file) for file in files)
    is_exported = (directory / DIRECTORY).is_dir()
    return [name for name in names if not _WRITTEN.fullmatch(name) and not (is_exported and name == CARD)]
