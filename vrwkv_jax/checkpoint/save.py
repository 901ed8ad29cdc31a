"""Writes parameters as PyTorch's libraries store them, so that diffusers and transformers can load what we make."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
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
        config = {"_class_name": CLASSES[name][1], **config}
        if name == "text_encoder":
            config |= {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
        save_component(directory / name, config, params)
    (directory / "scheduler").mkdir(exist_ok=True)
    scheduler = {"_class_name": CLASSES["scheduler"][1], **scheduler}
    (directory / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")
    index = {"_class_name": "StableDiffusionPipeline", **CLASSES}
    (directory / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def save_component(directory: Path, config: Mapping[str, Any], params: Params) -> None:
    """Writes ``config.json`` and the safetensors of ``unet/``, ``vae/`` or ``text_encoder/`` into ``directory``.

    ``config`` is what goes into the file, ``_class_name`` included. Its ``use_linear_projection`` decides whether a
    U-Net's ``proj_in`` and ``proj_out`` are stored as linear layers or as 1x1 convolutions.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    as_convolution = r"attentions\.\d+\.proj_(in|out)\.weight$" if not config.get("use_linear_projection") else r"$^"

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
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.tobytes())
