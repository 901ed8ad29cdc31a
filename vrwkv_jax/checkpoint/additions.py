"""What a user puts on top of a checkpoint: LoRA and textual inversions, by the words of a command line."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vrwkv_jax.checkpoint.lora import Lora
from vrwkv_jax.checkpoint.textual_inversion import Embedding, open_embedding
from vrwkv_jax.system.errors import UserError, setting

SCALE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def open_loras(given: Sequence[str]) -> list[tuple[Lora, float]]:
    """Each ``FILE`` or ``FILE:SCALE`` with its scale; nothing but names and shapes is read.

    Raises:
        UserError: a file is not there, or damaged, or no LoRA that is read.
    """
    return [(Lora.open(file), scale) for file, scale in map(lora_and_scale, given)]


def lora_and_scale(given: str) -> tuple[Path, float]:
    """The two of ``FILE:SCALE``, of which the second may be missing."""
    file, _, scale = given.rpartition(":")
    if not file or not SCALE.fullmatch(scale):
        file, scale = given, "1"
    return _file(file, "lora"), float(scale)


def open_embeddings(given: Sequence[str]) -> list[Embedding]:
    """Each ``FILE`` or ``FILE:WORD`` with its vectors.

    Raises:
        UserError: a file is not there, or damaged, or no textual inversion that is read.
    """
    return [open_embedding(file, word) for file, word in map(embedding_and_word, given)]


def embedding_and_word(given: str) -> tuple[Path, str | None]:
    """The two of ``FILE:WORD``, of which the second may be missing."""
    file, _, word = given.rpartition(":")
    if not file or os.path.isfile(os.path.expanduser(given)):
        return _file(given, "embedding"), None
    return _file(file, "embedding"), word


def _file(name: str, given_as: str) -> Path:
    path = Path(os.path.expanduser(name))
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "is not there"
        raise UserError(f"{setting(given_as)}: {path} {what}; expected a file of weights (.safetensors, .pt or .bin)")
    return path
