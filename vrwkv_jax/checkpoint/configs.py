"""Reads the configurations of a checkpoint's models from their config.json files."""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.load import read_json
from vrwkv_jax.errors import UserError
from vrwkv_jax.models.clip_text import CLIPTextConfig
from vrwkv_jax.models.config import from_json
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import VAEConfig


def read_configs(path: Path) -> tuple[UNetConfig, VAEConfig, CLIPTextConfig]:
    """The configurations of the U-Net, the VAE and the text encoder of the checkpoint in ``path``.

    Raises:
        UserError: a file is missing or damaged, describes a model of another class, or one that is not supported.
    """
    unet, vae, text_encoder = (path / part / "config.json" for part in ("unet", "vae", "text_encoder"))
    return (
        from_json(UNetConfig, _read(unet, "UNet2DConditionModel"), str(unet)),
        VAEConfig.from_dict(_read(vae, "AutoencoderKL"), str(vae)),
        CLIPTextConfig.from_dict(_read(text_encoder, "CLIPTextModel"), str(text_encoder)),
    )


def _read(path: Path, class_name: str) -> dict[str, Any]:
    values = read_json(path)
    # diffusers writes _class_name, transformers a list with one entry; a file written by hand may have neither
    names = [values["_class_name"]] if "_class_name" in values else values.get("architectures") or [class_name]
    if names != [class_name]:
        raise UserError(f"{path} describes {names}, expected {[class_name]}: this is no SD 1.x or 2.x model")
    return values
