"""The diffusers layout: a directory per part, with config.json, and safetensors or .bin in one file or in shards."""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import native, weight_files
from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.base import PARTS
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.diffusion.schedule import PredictionType
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer

TITLE = f"a checkpoint directory in the diffusers layout with safetensors or .bin ({', '.join(PARTS)})"


def recognises(checkpoint: Path, part: str) -> bool:
    # Of a directory without weights this form says best what is missing, so it claims that as well.
    return (checkpoint / part).is_dir() and not native.is_native(checkpoint / part)


def describe(checkpoint: Path, prediction_type: PredictionType | None = None) -> Description:
    scheduler = read_json(checkpoint / "scheduler" / "scheduler_config.json")
    if prediction_type is not None:
        scheduler |= {"prediction_type": prediction_type}
    return Description(*read_configs(checkpoint), Tokenizer.from_pretrained(checkpoint / "tokenizer"), scheduler)


def notes(checkpoint: Path) -> list[str]:
    return []


def variants(checkpoint: Path, part: str) -> list[str]:
    return weight_files.variants(checkpoint / part)


def tensors(checkpoint: Path, part: str, variant: str | None) -> weight_files.WeightFiles:
    return weight_files.WeightFiles(checkpoint / part, variant)


def read(checkpoint: Path, part: str, variant: str | None, abstract: Params, dtype: Any, progress: Progress) -> Params:
    found = tensors(checkpoint, part, variant)
    return from_tensors(found, abstract, dtype, where=str(checkpoint / part), progress=progress)


def weights(checkpoint: Path, part: str, variant: str | None) -> list[Path]:
    return weight_files.find(checkpoint / part, variant)
