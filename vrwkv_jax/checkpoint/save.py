"""Writes parameters as PyTorch's libraries store them, so that diffusers and transformers can load what we make."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax.checkpoint.tensors import NAMES
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
MODEL_INDEX = {"_class_name": "StableDiffusionPipeline", **CLASSES}
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
        save_component(directory / name, component_config(name, config), params)
    scheduler = {"_class_name": CLASSES["scheduler"][1], **scheduler}
    write_json(directory / "scheduler" / "scheduler_config.json", scheduler)
    write_json(directory / "model_index.json", MODEL_INDEX)


def component_config(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of ``unet``, ``vae`` or ``text_encoder``: its ``fields`` and its class."""
    config = {"_class_name": CLASSES[name][1], **fields}
    if name == "text_encoder":
        config |= {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    return config


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes ``values`` to ``path``, whose directory need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def save_component(directory: Path, config: Mapping[str, Any], params: Params) -> None:
    """Writes ``config.json`` and the safetensors of ``unet/``, ``vae/`` or ``text_encoder/`` into ``directory``.

    ``config`` is what goes into the file, ``_class_name`` included. Its ``use_linear_projection`` decides whether a
    U-Net's ``proj_in`` and ``proj_out`` are stored as linear layers or as 1x1 convolutions.
    """
    write_json(directory / "config.json", config)
    save_weights(directory, params, linear_projection=config.get("use_linear_projection", False))


def save_weights(directory: Path, params: Params, *, linear_projection: bool) -> None:
    """Writes the safetensors of ``save_component`` alone."""
    as_convolution = r"attentions\.\d+\.proj_(in|out)\.weight$" if not linear_projection else r"$^"

    def tensor(path: str) -> np.ndarray:  # a view
        array = to_torch(path, np.asarray(params[path]))
        return array[:, :, None, None] if re.search(as_convolution, torch_name(path)) else array

    weights = WEIGHTS.get(directory.name, "diffusion_pytorch_model.safetensors")
    save_safetensors(directory / weights, {torch_name(path): tensor(path) for path in params})


def save_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes ``tensors``, which may be views of any strides, with no more than a copy of one of them in memory.

    The library's own function wants copies of all at once.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.tobytes())
