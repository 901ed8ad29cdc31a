"""Whether the weights of a checkpoint are those that a run was made with, whatever it is called now."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vrwkv_jax.checkpoint.formats.base import WEIGHTS
from vrwkv_jax.checkpoint.formats.registry import format_of
from vrwkv_jax.system.errors import UserError, setting


def weights_sha256(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of weights, by its path in ``checkpoint``."""
    # each once: one file may hold all parts
    files = {file: None for part in WEIGHTS for file in format_of(checkpoint, part).weights(checkpoint, part)}
    return {str(path.relative_to(checkpoint)): _sha256(path) for path in files}


def check_weights(checkpoint: Path, recorded: Mapping[str, str], what: str) -> None:
    """Raises UserError where the weights are not those that ``what``, such as a run, has ``recorded``."""
    found = weights_sha256(checkpoint)
    if found == recorded:
        return
    name = next(name for name in (*recorded, *found) if recorded.get(name) != found.get(name))
    before, now = (hashes.get(name, "missing")[:12] for hashes in (recorded, found))
    raise UserError(
        f"{what} was made with other weights than those of {checkpoint} ({name}: sha256 was {before} and is {now}): "
        f"say with {setting('model')} where its own are"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
