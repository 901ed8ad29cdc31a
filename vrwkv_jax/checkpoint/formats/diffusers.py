"""The diffusers layout: a directory per part, with config.json, and safetensors in one file or in shards."""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import native, safetensors_files
from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.base import PARTS
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer

TITLE = f"a checkpoint directory in the diffusers layout with safetensors ({', '.join(PARTS)})"


def recognises(checkpoint: Path, part: str) -> bool:
    # Of a directory without weights this form says best what is missing, so it claims that as well.
    return (checkpoint / part).is_dir() and not native.is_native(checkpoint / part)


def describe(checkpoint: Path) -> Description:
    scheduler = read_json(checkpoint / "scheduler" / "scheduler_config.json")
    return Description(*read_configs(checkpoint), Tokenizer.from_pretrained(checkpoint / "tokenizer"), scheduler)


def read(checkpoint: Path, part: str, abstract: Params, dtype: Any, progress: Progress) -> Params:
    tensors = safetensors_files.SafetensorsFiles(checkpoint / part)
    return from_tensors(tensors, abstract, dtype, where=str(checkpoint / part), progress=progress)


def weights(checkpoint: Path, part: str) -> list[Path]:
    return safetensors_files.find(checkpoint / part)
