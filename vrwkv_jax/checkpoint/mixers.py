"""A tuned model's mixers, beside the image model in the diffusers layout: in a directory ``mixers``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vrwkv_jax.checkpoint.save import save_weights, write_json
from vrwkv_jax.checkpoint.small_files import read_bytes
from vrwkv_jax.checkpoint.torch_tensors import check_tensors, from_tensors
from vrwkv_jax.checkpoint.weight_files import WeightFiles
from vrwkv_jax.models import params as P
from vrwkv_jax.models.parameter_rules import ADDED
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError, quoted

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
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("video_model", *first["loc"])))
        raise UserError(
            f"{path}: {where} is {quoted(str(first['input']))}: {first['msg']}; export the run again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read ({error}): export the run again") from error


def added(unet: UNetConfig, video: VideoConfig) -> Params:
    """Shapes of the parameters that ``video`` adds to a U-Net."""
    shapes = P.described(UNet, unet, video)[1]
    return {path: leaf for path, leaf in shapes.items() if ADDED.search(path)}


def check(checkpoint: Path, abstract: Params) -> None:
    """Raises UserError where the mixers in ``checkpoint`` are not those with parameters of these shapes."""
    check_tensors(WeightFiles(checkpoint / DIRECTORY), abstract, str(checkpoint / DIRECTORY))


def read(checkpoint: Path, abstract: Params) -> Params:
    """The parameters of the mixers, by the paths of ``abstract``, in float32.

    Raises:
        UserError: the file is damaged, or its tensors are those of another model or configuration.
    """
    directory = checkpoint / DIRECTORY
    return from_tensors(WeightFiles(directory), abstract, "float32", where=str(directory))
