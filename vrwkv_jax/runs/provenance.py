"""What a run was made of: clip, weights, prompt, versions."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vrwkv_jax
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.system.about import about
from vrwkv_jax.typing import UInt8


def provenance(clip: UInt8[np.ndarray, "F H W 3"] | str, prompt: str, source: Source, bi_wkv: str) -> dict[str, Any]:
    """SHA-256 of the clip's frames, or what is given for it, and of each file of weights of ``source``; prompt,
    versions and so on.

    ``bi_wkv`` is the implementation of Bi-WKV that runs.
    """
    return {
        "clip_sha256": clip if isinstance(clip, str) else hashlib.sha256(np.ascontiguousarray(clip).data).hexdigest(),
        "weights_sha256": source.sha256(),
        "prompt": prompt,
        "git_revision": _git_revision(),
        "device_count": jax.device_count(),
        "bi_wkv": bi_wkv,
        **about(),
    }


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
