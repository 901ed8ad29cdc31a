"""What a user puts on top of a checkpoint: LoRA and textual inversions, by the words of a command line."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from vrwkv_jax.checkpoint.lora import Lora
from vrwkv_jax.checkpoint.textual_inversion import Embedding, open_embedding
from vrwkv_jax.system.errors import UserError, setting


def open_loras(given: Sequence[str]) -> list[tuple[Lora, float]]:
    """Each ``FILE`` or ``FILE:SCALE`` with its scale; nothing but names and shapes is read.

    Raises:
        UserError: a file is not there, or damaged, or no LoRA that is read.
    """
    return [(Lora.open(file), scale) for file, scale in map(lora_and_scale, given)]


def lora_and_scale(given: str) -> tuple[Path, float]:
    """The two of ``FILE:SCALE``, of which the second may be missing; UserError where it is no number."""
    file, scale = _split(given, "lora")
    try:
        found = 1.0 if scale is None else float(scale)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{setting('lora')} {given}: the scale {scale!r} is no number; expected one such as 0.8")
    return file, found


def open_embeddings(given: Sequence[str]) -> list[Embedding]:
    """Each ``FILE`` or ``FILE:WORD`` with its vectors.

    Raises:
        UserError: a file is not there, or damaged, or no textual inversion that is read.
    """
    return [open_embedding(file, word) for file, word in map(embedding_and_word, given)]


def embedding_and_word(given: str) -> tuple[Path, str | None]:
    """The two of ``FILE:WORD``, of which the second may be missing."""
    return _split(given, "embedding")


def _split(given: str, given_as: str) -> tuple[Path, str | None]:
    """``FILE`` and what is behind the last colon, if that does not belong to its name."""
    whole, (start, _, behind) = os.path.expanduser(given), given.rpartition(":")
    if os.path.isfile(whole):
        return Path(whole), None
    if start and os.path.isfile(os.path.expanduser(start)):
        return Path(os.path.expanduser(start)), behind
    what = "is a folder" if os.path.isdir(whole) else "is not there"
    raise UserError(f"{setting(given_as)}: {given} {what}; expected a file of weights (.safetensors, .pt or .bin)")
