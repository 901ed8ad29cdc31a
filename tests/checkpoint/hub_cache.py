"""The local cache of the Hugging Face client, filled by hand."""

import os
import shutil
from pathlib import Path

COMMIT = "4d7a41f0" * 5


def put_into_cache(cache: Path, repository: str, checkpoint: Path) -> Path:
    """``checkpoint`` as the hub's client stores it: links in ``snapshots/COMMIT`` to files in ``blobs``."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "blobs").mkdir()
    for number, file in enumerate(file for file in sorted(checkpoint.rglob("*")) if file.is_file()):
        blob, link = root / "blobs" / f"{number:040x}", snapshot / file.relative_to(checkpoint)
        shutil.copyfile(file, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot
