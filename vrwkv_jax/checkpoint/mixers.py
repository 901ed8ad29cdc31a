"""A tuned model's mixers, beside the image model in the diffusers layout: in a directory ``mixers``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vrwkv_jax.checkpoint.save import save_weights, write_json
from vrwkv_jax.checkpoint.small_files import read_bytes
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.checkpoint.weight_files import WeightFiles
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

DIRECTORY = "mixers"
CONFIG = "config.json"


def save(checkpoint: Path, video: VideoConfig, params: Params) -> None:
    """Writes ``checkpoint/mixers``: the configuration, and ``params`` as safetensors.

    Tensors have the names of the U-Net's modules, with dots. Kernels lie as PyTorch's weights do, all else as it is.
    """
    write_json(checkpoint / DIRECTORY / CONFIG, {"video_model": asdict(video)})
    save_weights(checkpoint / DIRECTORY, params, linear_projection=True)


def config_of(checkpoint: Path) -> VideoConfig | None:
    """How the mixers in ``checkpoint`` were made; None where it has none.

    Raises:
        UserError: the file is damaged, or says what is not possible.
    """
    path = checkpoint / DIRECTORY / CONFIG
    if not path.exists():
        return None
    try:
        written = TypeAdapter(dict[str, Any]).validate_json(read_bytes(path))
        return TypeAdapter(VideoConfig).validate_python(written.get("video_model")).settled()
    except (ValidationError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} is no configuration of mixers ({reason}): export the run again") from error


def read(checkpoint: Path, abstract: Params) -> Params:
    """The parameters of the mixers, by the paths of ``abstract``, in float32.

    Raises:
        UserError: the file is damaged, or its tensors are those of another model or configuration.
    """
    directory = checkpoint / DIRECTORY
    return from_tensors(WeightFiles(directory), abstract, "float32", where=str(directory))
