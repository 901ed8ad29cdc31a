"""What ``vrwkv convert`` writes: the small files of the diffusers layout beside weights in our own format."""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import native, saved
from vrwkv_jax.checkpoint.formats import diffusers
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.tensors import Headers
from vrwkv_jax.models.params import Params

TITLE = "a checkpoint directory that `vrwkv convert` wrote"

describe = diffusers.describe


def recognises(checkpoint: Path, part: str) -> bool:
    return native.is_native(checkpoint / part)


def notes(checkpoint: Path) -> list[str]:
    return []


def variants(checkpoint: Path, part: str) -> list[str]:
    return []


def tensors(checkpoint: Path, part: str, variant: str | None) -> Headers:
    return saved.Saved(checkpoint / part)


def read(checkpoint: Path, part: str, variant: str | None, abstract: Params, dtype: Any, progress: Progress) -> Params:
    return native.restore(checkpoint / part, abstract, dtype, progress=progress)


def weights(checkpoint: Path, part: str, variant: str | None) -> list[Path]:
    return sorted(path for path in (checkpoint / part / native.DIRECTORY).rglob("*") if path.is_file())
