"""Reads the files of a checkpoint that are no weights: JSON, and what is copied as it is."""

import json
import os
from pathlib import Path
from typing import Any

from vrwkv_jax.system.errors import UserError

LARGEST = 2**24  # bytes of a file that is no weights: vocabularies have 4 million, and JSON takes 25 times its size


def check_link(file: Path, directory: Path) -> None:
    """Raises ``UserError`` where ``file`` is a link that leads out of ``directory``.

    Links of the hub's local cache, where every file is one to a neighbouring folder, are as good as the files.
    """
    real, root = Path(os.path.realpath(file)), Path(os.path.realpath(directory))
    inside = [
        root,
        *(folder.parent.parent / "blobs" for folder in (root, root.parent) if folder.parent.name == "snapshots"),
    ]
    if not any(real.is_relative_to(folder) for folder in inside):
        raise UserError(f"{file} is a link to {real}, outside of the checkpoint: put a copy of the file in its place")


def read_bytes(path: Path) -> bytes:
    """The contents of a small file of a checkpoint.

    Raises:
        UserError: it is no file, or larger than such a file can be, or can't be read.
    """
    try:
        if not path.is_file():
            what = "is no regular file" if path.exists() and not path.is_dir() else "is missing"
            raise UserError(f"{path} {what}: the directory is no complete checkpoint")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): download or copy it again") from error
    if len(content) > LARGEST:
        raise UserError(f"{path} has more than {LARGEST // 2**20} MiB: it can't be what its name says")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; UserError when the file is missing or holds something else."""
    content = read_bytes(path)
    try:
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON ({error}): download or copy it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object with the model's configuration")
    return values
