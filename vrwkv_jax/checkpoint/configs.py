"""Reads the configurations of a checkpoint's models from their config.json files."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import kinds
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.models.clip_text import CLIPTextConfig
from vrwkv_jax.models.clip_vision import CLIPVisionConfig, DINOConfig
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.system.errors import UserError, quoted

# The largest numbers that are tried: what Stable Diffusion and its children have, with room. Beyond them, building the
# modules takes minutes before anything could be found amiss.
MOST = {
    "in_channels": 64,
    "out_channels": 64,
    "latent_channels": 64,
    "block_out_channels": 8192,
    "layers_per_block": 3,
    "transformer_layers_per_block": 2,
    "norm_num_groups": 1024,
    "cross_attention_dim": 8192,
    "attention_head_dim": 512,
    "time_cond_proj_dim": 8192,
    "vocab_size": 1_000_000,
    "hidden_size": 8192,
    "intermediate_size": 65_536,
    "num_hidden_layers": 48,
    "num_attention_heads": 512,
    "max_position_embeddings": 4096,
    "image_size": 2048,
    "patch_size": 256,
}
LEVELS = 8


def read_configs(path: Path) -> tuple[UNetConfig, VAEConfig, CLIPTextConfig]:
    """The configurations of the U-Net, the VAE and the text encoder of the checkpoint in ``path``.

    Raises:
        UserError: a file is missing or damaged, describes a model of another class, or one that is not possible.
    """
    unet, vae, text_encoder = (path / part / "config.json" for part in ("unet", "vae", "text_encoder"))
    return (
        unet_config(_read(unet, "UNet2DConditionModel"), str(unet)),
        vae_config(_read(vae, "AutoencoderKL"), str(vae)),
        text_config(_read(text_encoder, "CLIPTextModel"), str(text_encoder)),
    )


def read_vae_config(path: Path) -> VAEConfig:
    """The configuration of a VAE in its ``config.json``; raises as ``read_configs``."""
    return vae_config(_read(path, "AutoencoderKL"), str(path))


def unet_config(values: dict[str, Any], where: str) -> UNetConfig:
    """The configuration of a U-Net with the ``values`` that its config.json has; UserError names ``where``."""
    kinds.check_unet(values, where)
    _check_numbers(values, UNetConfig, where)
    config = from_json(UNetConfig, values, where)
    _check_levels(config, where)
    return config


def vae_config(values: dict[str, Any], where: str) -> VAEConfig:
    """The same of a VAE."""
    _check_numbers(values, VAEConfig, where)
    return VAEConfig.from_dict(values, where)


def text_config(values: dict[str, Any], where: str) -> CLIPTextConfig:
    """The same of a text encoder."""
    _check_numbers(values, CLIPTextConfig, where)
    return CLIPTextConfig.from_dict(values, where)


def vision_config(values: dict[str, Any], where: str) -> CLIPVisionConfig:
    """The same of CLIP's image encoder."""
    _check_numbers(values, CLIPVisionConfig, where)
    return CLIPVisionConfig.from_dict(values, where)


def dino_config(values: dict[str, Any], where: str) -> DINOConfig:
    """The same of DINO."""
    _check_numbers(values, DINOConfig, where)
    return DINOConfig.from_dict(values, where)


def _read(path: Path, class_name: str) -> dict[str, Any]:
    """The values in ``path``, of the class ``class_name``."""
    values = read_json(path)
    # diffusers writes _class_name, transformers a list with one entry; a file written by hand may have neither
    names = [values["_class_name"]] if "_class_name" in values else values.get("architectures") or [class_name]
    if names != [class_name]:
        known = next((f"{kinds.MODELS[str(name)]} and " for name in names if str(name) in kinds.MODELS), "")
        raise UserError(
            f"{path} describes {quoted(str(names), plain=True)}, expected {[class_name]}: this is {known}no SD 1.x or "
            "2.x model"
        )
    return values


def _check_numbers(values: dict[str, Any], config: type, where: str) -> None:
    """Raises UserError where a number in the fields of ``config`` is not above 0, or larger than any model's."""
    for key in {field.name for field in fields(config)} & values.keys() - {"freq_shift", "shift_factor"}:
        entries = values[key] if isinstance(values[key], list) else [values[key]]
        if not entries or any(type(entry) in (int, float) and not 0 < entry < math.inf for entry in entries):
            raise UserError(f"{where}: {key} is {quoted(values[key])}, which is not possible; expected above 0")
        most = MOST.get(key, math.inf)
        if len(entries) > LEVELS or any(type(entry) is int and entry > most for entry in entries):
            expected = f"at most {LEVELS} entries" if len(entries) > LEVELS else f"at most {most}"
            raise UserError(
                f"{where}: {key} is {quoted(values[key])}, which no SD 1.x or 2.x model has; expected {expected}"
            )


def _check_levels(config: UNetConfig, where: str) -> None:
    channels, heads = config.block_out_channels, config.num_heads
    for key, entries in (
        ("down_block_types", config.down_block_types),
        ("up_block_types", config.up_block_types),
        ("attention_head_dim", heads),
    ):
        if len(entries) != len(channels):
            raise UserError(
                f"{where}: {key} has {len(entries)} entries and block_out_channels has {len(channels)}; "
                "expected one per resolution"
            )
    for key, divisors in (
        ("norm_num_groups", (config.norm_num_groups,) * len(channels)),
        ("attention_head_dim (the number of heads)", heads),
    ):
        if any(width % divisor for width, divisor in zip(channels, divisors, strict=True)):
            raise UserError(
                f"{where}: block_out_channels is {list(channels)} and {key} is {list(divisors)} at these resolutions; "
                "expected multiples"
            )
