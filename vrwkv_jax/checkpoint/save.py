"""Writes parameters as PyTorch's libraries store them, so that diffusers and transformers can load what we make."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from vrwkv_jax.checkpoint.torch_names import to_torch, torch_name
from vrwkv_jax.models.params import Params

WEIGHTS = {"text_encoder": "model.safetensors"}  # transformers' name; all else has diffusers'


def save_component(directory: Path, config: Mapping[str, Any], params: Params) -> None:
    """Writes ``config.json`` and the safetensors of ``unet/``, ``vae/`` or ``text_encoder/`` into ``directory``.

    ``config`` is what goes into the file, ``_class_name`` included. Its ``use_linear_projection`` decides whether a
    U-Net's ``proj_in`` and ``proj_out`` are stored as linear layers or as 1x1 convolutions.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    as_convolution = r"attentions\.\d+\.proj_(in|out)\.weight$" if not config.get("use_linear_projection") else r"$^"

    def tensor(path: str, name: str) -> np.ndarray:
        array = to_torch(path, np.asarray(params[path]))
        return array[:, :, None, None] if re.search(as_convolution, name) else array

    names = {path: torch_name(path) for path in params}
    weights = WEIGHTS.get(directory.name, "diffusion_pytorch_model.safetensors")
    save_file({name: tensor(path, name) for path, name in names.items()}, directory / weights, {"format": "pt"})
