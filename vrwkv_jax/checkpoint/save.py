"""Writes parameters as PyTorch's libraries store them, so that diffusers and transformers can load what we make."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.torch_names import to_torch, torch_name
from vrwkv_jax.media.files import replacing
from vrwkv_jax.models.params import Params

CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}
WEIGHTS = {"text_encoder": "model.safetensors"}  # transformers' name; all else has diffusers'


def save_pipeline(
    directory: Path, models: Mapping[str, tuple[Mapping[str, Any], Params]], scheduler: Mapping[str, Any]
) -> None:
    """Writes all of a checkpoint in the diffusers layout but for ``tokenizer/``.

    Args:
        models: for ``unet``, ``vae`` and ``text_encoder``: the fields of its configuration, and its parameters.
        scheduler: what goes into ``scheduler_config.json``.
    """
    for name, (config, params) in models.items():
        save_component(directory / name, _with_class(name, config), params)
    _save_scheduler_and_index(directory, scheduler)


def save_small_files(directory: Path, parts: Description) -> None:
    """Writes all of a checkpoint in the diffusers layout but for the weights, which are to follow."""
    for name in ("unet", "vae", "text_encoder"):
        config = _with_class(name, asdict(getattr(parts, name)))
        _write(directory / name / "config.json", config)
    _save_scheduler_and_index(directory, asdict(parts.schedule))
    parts.tokenizer.save(directory / "tokenizer")


def save_component(directory: Path, config: Mapping[str, Any], params: Params) -> None:
    """Writes ``config.json`` and the safetensors of ``unet/``, ``vae/`` or ``text_encoder/`` into ``directory``.

    ``config`` is what goes into the file, ``_class_name`` included. Its ``use_linear_projection`` decides whether a
    U-Net's ``proj_in`` and ``proj_out`` are stored as linear layers or as 1x1 convolutions.
    """
    _write(directory / "config.json", config)
    as_convolution = r"attentions\.\d+\.proj_(in|out)\.weight$" if not config.get("use_linear_projection") else r"$^"

    def tensor(path: str, name: str) -> np.ndarray:
        array = to_torch(path, np.asarray(params[path]))
        return array[:, :, None, None] if re.search(as_convolution, name) else array

    names = {path: torch_name(path) for path in params}
    weights = WEIGHTS.get(directory.name, "diffusion_pytorch_model.safetensors")
    tensors = {name: tensor(path, name) for path, name in names.items()}
    with replacing(directory / weights) as part:
        part.write_bytes(save(tensors, {"format": "pt"}))  # save_file would keep it from all but its owner


def _save_scheduler_and_index(directory: Path, scheduler: Mapping[str, Any]) -> None:
    _write(directory / "scheduler" / "scheduler_config.json", _with_class("scheduler", scheduler))
    _write(directory / "model_index.json", {"_class_name": "StableDiffusionPipeline", **CLASSES})


def _with_class(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the class of the original that it is for."""
    transformers = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    return {"_class_name": CLASSES[name][1], **config} | (transformers if name == "text_encoder" else {})


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=2) + "\n")
