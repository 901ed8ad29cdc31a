"""Of what a run was made: clip, weights, prompt, versions."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vrwkv_jax
from vrwkv_jax.about import about
from vrwkv_jax.checkpoint import native, safetensors_files
from vrwkv_jax.checkpoint.hub import WEIGHTS
from vrwkv_jax.typing import UInt8


def provenance(clip: UInt8[np.ndarray, "F H W 3"], prompt: str, checkpoint: Path) -> dict[str, Any]:
    """SHA-256 of the clip's frames and of each file of weights in ``checkpoint``; prompt, versions and so on."""
    return {
        "clip_sha256": hashlib.sha256(np.ascontiguousarray(clip).data).hexdigest(),
        "weights_sha256": {str(path.relative_to(checkpoint)): _sha256(path) for path in _weights(checkpoint)},
        "prompt": prompt,
        "git_revision": _git_revision(),
        "device_count": jax.device_count(),
        **about(),
    }


def _weights(checkpoint: Path) -> list[Path]:
    files: list[Path] = []
    for directory in (checkpoint / part for part in WEIGHTS):
        if native.is_native(directory):
            files += sorted(path for path in (directory / native.DIRECTORY).rglob("*") if path.is_file())
        else:
            files += safetensors_files.find(directory)
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_revision() -> str | None:
    """The commit of this package, if it is a checkout; with "+" where files differ from it."""
    root = Path(vrwkv_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10, check=True)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip() + ("+" if changes.stdout else "")
